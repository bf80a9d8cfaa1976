//! A run, from the empty stage to the verdict.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use campfire_tests::seed::DATABASE;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_postgres::Client as Database;

use crate::attack::{Figures, Ground, carry_out};
use crate::checker::{self, Context, Kind, Violation};
use crate::client::{Client, LAST, Shared};
use crate::faults;
use crate::hostile::Hostile;
use crate::journal::{Journal, Texts};
use crate::latency::{Latency, Phase};
use crate::plan::Plan;
use crate::report::Report;
use crate::sabotage::{Sabotage, Saboteur};
use crate::stage::Stage;
use crate::truth::Truth;
use crate::writers::{Tally, Writer};
use crate::xids;

/// How long clients may take to get to the end once nothing is wrong any more.
const END_PATIENCE: Duration = Duration::from_secs(180);

/// How often the oracle reads, so that its slot does not hold back a whole run.
const READ_EVERY: Duration = Duration::from_secs(3);

/// When a run ends that waits for sabotage.
const LONGEST: Duration = Duration::from_secs(300);

const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// The relay's default window, less what clocks and queues may take.
const WINDOW_MICROS: i64 = 280_000_000;

#[derive(Clone, Default)]
pub struct Options {
    /// The relay's program; by default the one that was built together with this.
    pub relay: Option<PathBuf>,
    /// What goes wrong on purpose, with one frame in so many.
    pub sabotage: Option<(Sabotage, u64)>,
    /// How often something went wrong before the run ends.
    pub strikes_min: u64,
    /// How long the end may take; by default very long, because a busy machine is no violation.
    pub patience: Option<Duration>,
    /// Says now and then how far it is.
    pub progress: bool,
}

/// Carries out a plan. An error is the harness's own; what the relay does wrong is in the report.
pub async fn run(plan: &Plan, options: Options) -> Result<Report> {
    let saboteur = options.sabotage.map(|(kind, one_in)| Arc::new(Saboteur::new(kind, one_in)));
    let mut stage = Stage::build(options.relay.clone(), saboteur.clone(), plan).await?;
    let database = stage.database().await?;
    plan.world.settle(&database).await?;
    let mut truth = Truth::begin(&database).await?;
    drop(database);
    stage.seat(0)?;
    stage.ready().await?;

    let shared = Arc::new(Shared {
        ports: stage.seats.iter().map(|seat| seat.proxy.port).collect(),
        api_key: stage.cluster.credentials.api_key.clone(),
        jwt_secret: stage.cluster.credentials.jwt_secret.clone(),
        texts: Texts::default(),
        delivered: AtomicU64::new(0),
        finished: AtomicUsize::new(0),
        clock_step: AtomicI64::new(0),
        hurry: AtomicBool::new(false),
        latency: Latency::default(),
    });
    let url = stage.cluster.superuser_url(DATABASE);
    // The first seat's relay: faults come later.
    let port = stage.seats[0].settings.port;
    let ground = Ground::new(Arc::clone(&shared), port, plan.world.hostile.clone(), url.clone());
    let (stop_clients, clients_stopped) = watch::channel(false);
    let (stop_writers, writers_stopped) = watch::channel(false);
    let mut clients = JoinSet::new();
    for spec in &plan.clients {
        clients.spawn(Client::new(Arc::clone(&shared), spec.clone()).run(clients_stopped.clone()));
    }
    let mut hostile = JoinSet::new();
    for number in 0..plan.hostile {
        let seed = plan.seed ^ (0xbad0 + number as u64);
        let one = Hostile::new(Arc::clone(&shared), plan.world.clone(), ground.clone(), seed);
        hostile.spawn(one.run(clients_stopped.clone()));
    }
    let tally = Arc::new(Tally::default());
    let mut writers = JoinSet::new();
    for number in 0..plan.writers {
        let writer = Writer::new(number, url.clone(), plan, Arc::clone(&tally));
        writers.spawn(writer.run(writers_stopped.clone()));
    }

    let mut play = Play {
        plan,
        options: &options,
        shared: &shared,
        saboteur: saboteur.as_deref(),
        report: Report::default(),
        losses: Vec::new(),
    };
    play.report.seed = plan.seed;
    play.report.clients = plan.clients.len();
    play.report.hostile = plan.hostile;
    let began = Instant::now();
    let pid = stage.relay()?.pid();
    let assault =
        plan.assault.map(|assault| tokio::spawn(carry_out(ground, plan.clone(), pid, assault, began)));
    let struck = play.act(&mut stage, &mut truth, began, assault.as_ref()).await;
    let Play { mut report, losses, .. } = play;

    let figures = match assault {
        Some(assault) => Some(assault.await.context("an attack panicked")?),
        None => None,
    };
    stop_writers.send_replace(true);
    while writers.join_next().await.is_some() {}
    let ended = match struck {
        Ok(()) => {
            let patience = options.patience.unwrap_or(END_PATIENCE);
            end(&mut stage, &mut truth, plan, &shared, patience).await
        }
        error => error,
    };
    stop_clients.send_replace(true);
    let mut journals: Vec<Journal> = Vec::new();
    while let Some(journal) = clients.join_next().await {
        journals.push(journal.context("a client panicked")?);
    }
    let mut loot = Vec::new();
    while let Some(got) = hostile.join_next().await {
        loot.extend(got.context("a hostile client panicked")?);
    }
    let rss_after = stage.relay().and_then(|relay| relay.resident_bytes()).unwrap_or_default();
    for seat in 0..stage.seats.len() {
        stage.unseat(seat);
    }
    ended?;
    if let Some(figures) = figures {
        let delivery = [Phase::Calm, Phase::Attack].map(|phase| shared.latency.spread(phase));
        report.assault = Some(Figures { delivery, rss_after, ..figures? });
    }
    journals.sort_by_key(|journal| journal.client.number);

    let context = Context {
        losses,
        starts: stage.starts.clone(),
        window_micros: WINDOW_MICROS,
        is_window_small: plan.window_bytes.is_some(),
        last_event: LAST,
    };
    let database = stage.database().await?;
    if let Some(boundary) = plan.xids {
        let next = xids::next(&database).await?;
        ensure!(next > boundary, "transaction ids came to {next}, and should have crossed {boundary}");
        report.xids = Some((boundary, next));
    }
    let disagreement = truth.disagreement(&database).await?;
    report.verdict = checker::check(&truth, &journals, &context);
    let nobodys = |kind, what| Violation { kind, client: None, channel: String::new(), what };
    let violations = &mut report.verdict.violations;
    violations.extend(
        loot.into_iter().map(|what| nobodys(Kind::Unauthorized, format!("a hostile client got {what}"))),
    );
    let complaints = report.assault.iter().flat_map(Figures::complaints);
    violations.extend(complaints.map(|what| nobodys(Kind::Relay, what)));
    violations.extend(stage.panics.iter().map(|line| nobodys(Kind::Relay, line.clone())));
    violations.extend(disagreement.map(|what| nobodys(Kind::Oracle, what)));
    report.seconds = began.elapsed().as_secs_f64();
    report.transactions = tally.committed.load(Ordering::Relaxed);
    report.rolled_back = tally.rolled_back.load(Ordering::Relaxed);
    report.failed = tally.failed.load(Ordering::Relaxed);
    report.events = truth.event_count;
    report.struck = saboteur.map_or(0, |saboteur| saboteur.struck.load(Ordering::Relaxed));
    Ok(report)
}

/// The part of a run in which things go wrong.
struct Play<'a> {
    plan: &'a Plan,
    options: &'a Options,
    shared: &'a Arc<Shared>,
    saboteur: Option<&'a Saboteur>,
    report: Report,
    losses: Vec<faults::Loss>,
}

impl Play<'_> {
    async fn act(
        &mut self,
        stage: &mut Stage,
        truth: &mut Truth,
        began: Instant,
        assault: Option<&JoinHandle<Result<Figures>>>,
    ) -> Result<()> {
        let mut faults = self.plan.faults.iter();
        let mut next = faults.next();
        let mut read_at = began + READ_EVERY;
        let mut look_at = began;
        let mut progress_at = began + PROGRESS_EVERY;
        let mut crossing = self.plan.xids.map(|boundary| (began + self.plan.lasts / 2, boundary));
        loop {
            let now = Instant::now();
            // By now many will have been used up; if the machine is too busy for that, the rest goes here.
            if let Some((_, boundary)) = crossing.take_if(|(at, _)| now >= *at) {
                xids::come_near(&stage.database().await?, boundary).await?;
            }
            if now >= began + self.plan.lasts && (self.has_enough() || now >= began + LONGEST) {
                return Ok(());
            }
            // A client that an attack delays must not be delayed by a fault as well: the attack would be blamed for both.
            let is_alone = assault.is_none_or(JoinHandle::is_finished);
            if let Some((_, fault)) = next.filter(|(at, _)| is_alone && now >= began + *at) {
                let loss = faults::strike(stage, self.shared, *fault)
                    .await
                    .with_context(|| format!("seed {}: while {} was played", self.plan.seed, fault.kind()))?;
                self.losses.extend(loss);
                *self.report.faults.entry(fault.kind()).or_default() += 1;
                next = faults.next();
            }
            if now >= look_at {
                if let Ok(bytes) = stage.relay()?.resident_bytes() {
                    self.report.resident.push(bytes);
                }
                look_at = now + Duration::from_secs(1);
            }
            if now >= read_at {
                // A server that is just starting is read the next time.
                if let Ok(database) = stage.database().await {
                    truth.read(&database).await.ok();
                }
                read_at = Instant::now() + READ_EVERY;
            }
            if now >= progress_at && self.options.progress {
                self.say(began);
                progress_at = now + PROGRESS_EVERY;
            }
            let due = next.filter(|_| is_alone).map_or(look_at, |(at, _)| (began + *at).min(look_at));
            sleep_until(if now < began + self.plan.lasts { due.min(began + self.plan.lasts) } else { due })
                .await;
        }
    }

    /// A saboteur strikes by frames, of which a busy machine brings few in a given time.
    fn has_enough(&self) -> bool {
        let struck = self.saboteur.map(|saboteur| saboteur.struck.load(Ordering::Relaxed));
        struck.is_none_or(|struck| struck >= self.options.strikes_min)
    }

    fn say(&self, began: Instant) {
        let faults: u32 = self.report.faults.values().sum();
        eprintln!(
            "    seed {}: {:.0} of {:.0} s, {faults} faults, {} events delivered",
            self.plan.seed,
            began.elapsed().as_secs_f64(),
            self.plan.lasts.as_secs_f64(),
            self.shared.delivered.load(Ordering::Relaxed)
        );
    }
}

/// Mends everything, sends one last event on every channel, waits for who should get it, and reads the truth to its
/// end.
async fn end(
    stage: &mut Stage,
    truth: &mut Truth,
    plan: &Plan,
    shared: &Arc<Shared>,
    patience: Duration,
) -> Result<()> {
    shared.hurry.store(true, Ordering::Relaxed);
    let mut database = stage.database().await?;
    plan.world.wake_agents(&database).await?;
    stage.ready().await?;
    say_last(&mut database, plan).await?;
    let wanted: usize = plan.clients.iter().map(|client| client.channels.len()).sum();
    let deadline = Instant::now() + patience;
    // Who is late is found by the checker.
    while shared.finished.load(Ordering::Relaxed) < wanted && Instant::now() < deadline {
        // A stock client that was out at the moment has missed it, as stock clients do.
        sleep(Duration::from_millis(500)).await;
        say_last(&mut database, plan).await?;
    }
    truth.read_to_end(&database).await
}

async fn say_last(database: &mut Database, plan: &Plan) -> Result<()> {
    let transaction = database.transaction().await?;
    let say = transaction.prepare("select campfire.broadcast($1, $2, '{}')").await?;
    for channel in plan.world.channels() {
        transaction.execute(&say, &[&channel, &LAST]).await?;
    }
    let send = transaction.prepare("select realtime.send('{}', $1, $2)").await?;
    for channel in plan.world.private_channels() {
        transaction.execute(&send, &[&LAST, &channel]).await?;
    }
    transaction.commit().await?;
    Ok(())
}
