//! `cargo xtask demo`: what the README promises in its first minute. Everything of
//! `up`, then either a page to play with or, with `--once`, a run that checks itself.

use std::collections::HashSet;
use std::process::{Command, ExitCode, ExitStatus, Stdio};

use anyhow::{Context, Result, bail, ensure};
use campfire_tests::fence::Fence;
use campfire_tests::socket::{Event, Vsn};
use campfire_tests::{AGENT, ORGANIZATION, Socket, chat, seed, token};
use tokio::net::TcpListener;
use tokio::process::Child;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::node::Node;
use crate::system::Need;
use crate::up::{Interrupt, Stack, StackArguments};
use crate::{node, page, program, step, up, visitors};

/// Conversations whose own channels are printed: two each, of the hundred that a socket may join.
const FOLLOWED_MAX: usize = 45;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Serve no page: insert a conversation and three messages, and check every event
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    stack: StackArguments,
    /// Port of the page; default: 8090, or a free port if that is taken
    #[arg(long)]
    port: Option<u16>,
    /// Visitors who write by themselves
    #[arg(long, value_name = "NUMBER", default_value_t = 0, conflicts_with = "once")]
    visitors: u32,
    /// Leave visitors to you: do not run the example that answers them as an AI, and hands over
    #[arg(long, conflicts_with = "once")]
    without_ai: bool,
}

/// The example that answers visitors.
const AI: &str = "examples/ai-handover";

/// `cargo xtask demo`.
pub(crate) fn run(arguments: Arguments) -> Result<ExitCode> {
    let needs: &[Need] = if arguments.once { &[] } else { &[Need::Node] };
    let prepared = up::prepare(&arguments.stack, needs)?;
    let node = if arguments.once { None } else { Some(node::ensure()?) };
    if let Some(node) = &node {
        node.ensure_packages(node::WORKSPACE)?;
        if !arguments.without_ai {
            node.ensure_packages(AI)?;
        }
    }
    up::block_on(async {
        let mut interrupt = Interrupt::listen()?;
        let mut stack_arguments = arguments.stack.clone();
        // The terminal is for events; who wants the relay's log asks for it by --env.
        stack_arguments.env.insert(0, ("CAMPFIRE_LOG".to_owned(), "warn".to_owned()));
        let listener = if arguments.once { None } else { Some(page::bind(arguments.port).await?) };
        if let Some(listener) = &listener {
            let origin = format!("http://{}", listener.local_addr()?);
            let dashboard = [
                ("CAMPFIRE_DASHBOARD", "on".to_owned()),
                ("CAMPFIRE_DASHBOARD_SESSION", format!("{origin}{}", page::TOKEN)),
                ("CAMPFIRE_DASHBOARD_FRAME_ANCESTORS", origin),
            ];
            stack_arguments.env.splice(0..0, dashboard.map(|(name, value)| (name.to_owned(), value)));
        }
        let mut stack = Stack::start(prepared, up::DIRECTORY, &stack_arguments, None).await?;
        let result = tokio::select! {
            () = interrupt.wait() => Ok(()),
            result = show(&mut stack, listener, node.filter(|_| !arguments.without_ai), arguments.visitors) => result,
        };
        stack.stop().await?;
        result?;
        if arguments.once {
            step::print_summary();
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// `demo --once` on a database of its own, for `cargo xtask test`: the README's first
/// command has to work.
pub(crate) fn check_once() -> Result<()> {
    let arguments = StackArguments {
        fresh: true,
        release: false,
        env: vec![("CAMPFIRE_LOG".to_owned(), "warn".to_owned())],
    };
    let prepared = up::prepare(&arguments, &[])?;
    up::block_on(async {
        let stack = Stack::start(prepared, "demo-test", &arguments, None).await?;
        let result = once(&stack).await;
        stack.stop().await?;
        result
    })
}

/// The page if there is a listener for it, else the run that checks itself. `ai`: what runs the AI.
async fn show(
    stack: &mut Stack,
    listener: Option<TcpListener>,
    ai: Option<Node>,
    visitors: u32,
) -> Result<()> {
    match listener {
        Some(listener) => page(stack, listener, ai, visitors).await,
        None => once(stack).await,
    }
}

/// Serves the page and prints events until something breaks.
async fn page(stack: &mut Stack, listener: TcpListener, ai: Option<Node>, visitors: u32) -> Result<()> {
    let address = format!("http://{}", listener.local_addr()?);
    let page = page::Page {
        relay: format!("http://{}", stack.address()),
        api_key: stack.cluster.credentials.api_key.clone(),
        jwt_secret: stack.cluster.credentials.jwt_secret.clone(),
    };
    let server = page::serve(listener, page);
    let visitors = visitors::simulate(stack.address(), visitors);
    let ai = ai.map(|node| start_ai(&node, stack)).transpose()?;

    let mut watcher = Watcher::connect(stack).await?;
    step::print_summary();
    println!("\n  the page is at {address}\n  Ctrl-C stops all of it\n");
    open_in_browser(&address);
    print_heading();

    tokio::select! {
        result = server => result.context("the page's server stopped"),
        result = visitors => result.context("a visitor failed"),
        result = ended(ai) => bail!("the AI has ended: {}", result?),
        result = watcher.print_all() => result.context("the events stopped"),
        () = stack.relay_gone() => bail!("the relay has exited, so the demo ends"),
    }
}

/// Starts the service that answers visitors. It ends with what is returned.
fn start_ai(node: &Node, stack: &Stack) -> Result<Child> {
    let mut command = node.command(AI);
    command.arg("main.js").stdin(Stdio::null()).stdout(Stdio::null());
    command.env("CAMPFIRE_RELAY", format!("http://{}", stack.address()));
    command.env("CAMPFIRE_ORGANIZATION", ORGANIZATION.to_string());
    command.env("CAMPFIRE_JWT_SECRET", &stack.cluster.credentials.jwt_secret);
    let mut command = tokio::process::Command::from(command);
    command.kill_on_drop(true).spawn().context("cannot start the AI")
}

/// Resolves when it has ended; without one, never.
async fn ended(ai: Option<Child>) -> Result<ExitStatus> {
    match ai {
        Some(mut ai) => Ok(ai.wait().await?),
        None => std::future::pending().await,
    }
}

/// A desktop is where something can be opened; its absence is no error.
fn open_in_browser(address: &str) {
    let has_desktop = ["DISPLAY", "WAYLAND_DISPLAY"]
        .iter()
        .any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
    if has_desktop && program::is_there("xdg-open") {
        let opened = Command::new("xdg-open")
            .arg(address)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        if opened.is_err() {
            eprintln!("could not open a browser; open the address yourself");
        }
    }
}

/// One agent's socket, joined to the channels of the organization and to those of
/// every conversation.
struct Watcher {
    socket: Socket,
    agent: String,
    followed: HashSet<Uuid>,
}

impl Watcher {
    async fn connect(stack: &Stack) -> Result<Self> {
        let credentials = &stack.cluster.credentials;
        let mut socket = socket(stack).await?;
        let agent = token::agent(&credentials.jwt_secret, ORGANIZATION, AGENT);
        for channel in [chat::organization_channel(ORGANIZATION), chat::conversations_channel(ORGANIZATION)] {
            socket.join(&channel, &agent).await?;
        }
        Ok(Self { socket, agent, followed: HashSet::new() })
    }

    async fn follow(&mut self, conversation: Uuid) -> Result<()> {
        if self.followed.len() >= FOLLOWED_MAX || !self.followed.insert(conversation) {
            return Ok(());
        }
        // As an agent on both: a visitor's channel would show that the visitor is there.
        for channel in [
            chat::conversation_channel(ORGANIZATION, conversation),
            chat::widget_channel(ORGANIZATION, conversation),
        ] {
            self.socket.join(&channel, &self.agent).await?;
        }
        Ok(())
    }

    /// Prints events, and follows conversations as they are heard of. The message by which that happens is missed on the
    /// conversation's own channels: they are joined only then.
    async fn print_all(&mut self) -> Result<()> {
        loop {
            let Some(event) = self.socket.event_or_silence().await? else {
                self.socket.heartbeat().await?;
                continue;
            };
            print_event(&event);
            let conversation = match event.name.as_str() {
                "conversation:created" => &event.payload["id"],
                "message:created" => &event.payload["conversation_id"],
                _ => continue,
            };
            if let Some(id) = conversation.as_str() {
                self.follow(id.parse()?).await?;
            }
        }
    }
}

fn print_heading() {
    println!("{:>9}  {:<22}  channel", "latency", "event");
}

fn print_event(event: &Event) {
    println!("{:>9}  {:<22}  {}", latency(event), event.name, event.channel);
}

/// From the commit to here; events that no commit made have none.
fn latency(event: &Event) -> String {
    match event.age() {
        Some(age) => format!("{:.1} ms", age.as_secs_f64() * 1000.0),
        None => "-".to_owned(),
    }
}

/// A socket that has joined nothing yet.
async fn socket(stack: &Stack) -> Result<Socket> {
    let key = &stack.cluster.credentials.api_key;
    match Socket::try_connect(&stack.address(), key, Vsn::V2).await? {
        Ok(socket) => Ok(socket),
        Err(refused) => bail!("the relay refused a socket: {refused:?}"),
    }
}

/// One channel, and what must arrive there before its fence does.
struct Expectation {
    channel: String,
    token: String,
    events: Vec<(&'static str, &'static [&'static str])>,
    fence: Fence,
}

/// Inserts by psql what an application would, and checks every channel.
async fn once(stack: &Stack) -> Result<()> {
    let conversation = Uuid::new_v4();
    let (conversation_fence, message_fence) = (Fence::new(), Fence::new());
    let expectations = expectations(stack, conversation, &conversation_fence, &message_fence);
    // Each reads for itself, so that a latency is the channel's and not its turn's.
    let mut listeners = Vec::new();
    for expectation in expectations {
        let mut socket = socket(stack).await?;
        socket.join(&expectation.channel, &expectation.token).await?;
        listeners.push(tokio::spawn(async move {
            let events = socket.events_before(&expectation.fence, &expectation.channel).await?;
            anyhow::Ok((expectation, events))
        }));
    }

    let step =
        step::begin("inserting a conversation and three messages (psql), and waiting for their events");
    for statement in statements(conversation) {
        // One psql each: a transaction of its own. It must not block the listeners.
        let mut psql = tokio::process::Command::from(stack.cluster.psql_command(seed::DATABASE, &statement));
        let status = psql.status().await.context("cannot run psql")?;
        ensure!(status.success(), "psql failed: {statement}");
    }
    let database = stack.cluster.connect().await?;
    conversation_fence.raise_as_conversation(&database, ORGANIZATION).await?;
    message_fence.raise_as_message(&database, ORGANIZATION, conversation).await?;

    let channels = listeners.len();
    let mut wrong = 0;
    for listener in listeners {
        let (expectation, events) = listener.await??;
        wrong += usize::from(!check(&expectation, &events));
    }
    // What this made is nothing to see on the demo's page later.
    let made: [&(dyn ToSql + Sync); 2] = [&conversation, &conversation_fence.text()];
    database.execute("delete from conversations where id = $1 or customer_name = $2", &made).await?;
    step.done();
    ensure!(wrong == 0, "{wrong} of {channels} channels got other events than expected");
    println!("\nevery expected event arrived on every expected channel, in order, once");
    Ok(())
}

fn statements(conversation: Uuid) -> Vec<String> {
    let mut statements = vec![format!(
        "insert into conversations (id, organization_id, customer_name, customer_email)
         values ('{conversation}', '{ORGANIZATION}', 'Vera Visitor', 'vera@example.com')"
    )];
    for (sender, content) in [
        ("visitor", "Hello, is anybody there?"),
        ("agent", "Yes. What can I do for you?"),
        ("visitor", "That was quick!"),
    ] {
        statements.push(format!(
            "insert into messages (organization_id, conversation_id, content, sender_type)
             values ('{ORGANIZATION}', '{conversation}', '{content}', '{sender}')"
        ));
    }
    statements
}

/// The four channels, as the browser's dashboard and widget join them.
fn expectations(
    stack: &Stack,
    conversation: Uuid,
    conversation_fence: &Fence,
    message_fence: &Fence,
) -> Vec<Expectation> {
    let secret = &stack.cluster.credentials.jwt_secret;
    let agent = token::agent(secret, ORGANIZATION, AGENT);
    let visitor = token::visitor(secret, ORGANIZATION, conversation);
    let message: (_, &'static [_]) = ("message:created", &chat::MESSAGE_COLUMNS);
    let seen_by_visitors: (_, &'static [_]) = ("message:created", &chat::VISITOR_MESSAGE_COLUMNS);
    let created: (_, &'static [_]) = ("conversation:created", &chat::MIRROR_COLUMNS);
    let touched: (_, &'static [_]) = ("conversation:updated", &chat::MIRROR_COLUMNS);
    vec![
        Expectation {
            channel: chat::organization_channel(ORGANIZATION),
            token: agent.clone(),
            events: vec![created, touched, touched, touched],
            fence: conversation_fence.clone(),
        },
        Expectation {
            channel: chat::conversations_channel(ORGANIZATION),
            token: agent.clone(),
            events: vec![created, message, message, message],
            fence: conversation_fence.clone(),
        },
        Expectation {
            channel: chat::conversation_channel(ORGANIZATION, conversation),
            token: agent,
            events: vec![seen_by_visitors; 3],
            fence: message_fence.clone(),
        },
        Expectation {
            channel: chat::widget_channel(ORGANIZATION, conversation),
            token: visitor,
            events: vec![seen_by_visitors; 3],
            fence: message_fence.clone(),
        },
    ]
}

/// Prints what came on a channel; false if that is not exactly what should have.
fn check(expectation: &Expectation, events: &[Event]) -> bool {
    println!("\n{}", expectation.channel);
    for event in events {
        println!("{:>9}  {}", latency(event), event.name);
    }
    let mut complaints = Vec::new();
    let names: Vec<&str> = events.iter().map(|event| event.name.as_str()).collect();
    let wanted: Vec<&str> = expectation.events.iter().map(|(name, _)| *name).collect();
    if names != wanted {
        complaints.push(format!("expected {wanted:?}"));
    }
    for (event, (_, columns)) in events.iter().zip(&expectation.events) {
        if !chat::has_columns(&event.payload, columns) {
            complaints.push(format!("{} should have {columns:?}: {}", event.name, event.payload));
        }
        if event.id().is_empty() || event.age().is_none() {
            complaints.push(format!("{} lacks its id or time: {}", event.name, event.meta));
        }
    }
    if !events.is_sorted_by(|earlier, later| earlier.id() < later.id()) {
        complaints.push("ids do not rise: something came twice or out of order".to_owned());
    }
    for complaint in &complaints {
        println!("  WRONG: {complaint}");
    }
    complaints.is_empty()
}
