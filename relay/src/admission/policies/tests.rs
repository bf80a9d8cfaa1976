use futures_util::FutureExt;

use super::denials::DENIALS_KEPT;
use super::*;
use crate::auth::Role;
use crate::postgres::Conninfo;

const HERE: Option<IpAddr> = None;
const ANON: Credential = Credential::ApiKey(Role::Anon);

fn policies() -> Arc<Policies> {
    let database = Conninfo::parse("postgres://nobody@127.0.0.1:9/nothing", |_| None).unwrap();
    let limits = PolicyLimits {
        sessions: 1,
        queue: 200,
        timeout: Duration::from_secs(5),
        denial_age_max: Duration::from_secs(10),
    };
    Policies::new(Sessions::new(database, limits.sessions), limits, PolicyMetrics::default())
}

fn headers() -> Headers {
    Headers::of(&axum::http::HeaderMap::new(), |_| true)
}

fn key(topic: &str) -> Key {
    Question { topic: topic.into(), credential: ANON, headers: "{}".into() }.key()
}

#[test]
fn only_what_is_denied_is_remembered_and_not_for_long() {
    let policies = policies();
    let start = Instant::now();
    let all = Grants::ALL;
    let found = |grants| Ok(Findings { grants, write_failed: None });
    let cause = Cause { sqlstate: "22012".into(), message: "division by zero".into() };
    for (number, (topic, answer, is_remembered)) in [
        ("granted", found(all), false),
        ("denied", found(Grants::default()), true),
        ("written only", found(Grants { write_broadcast: true, ..Grants::default() }), true),
        ("failed", Err(PolicyError::Failed(cause)), true),
        ("not installed", Err(PolicyError::NotInstalled), true),
        ("unreachable", Err(PolicyError::Unreachable), false),
        ("exhausted", Err(PolicyError::Exhausted), false),
    ]
    .into_iter()
    .enumerate()
    {
        let start = start + Duration::from_secs(60 * number as u64);
        policies.remember(key(topic), &answer, start);
        let remembered = policies.remembered(&key(topic), start + Duration::from_secs(9));
        assert_eq!(remembered, is_remembered.then_some(answer), "{topic}");
        assert_eq!(policies.remembered(&key(topic), start + Duration::from_secs(10)), None, "{topic}");
    }
    assert_eq!(lock(&policies.denials).len(), 0, "what is too old is forgotten, not only passed over");
}

#[test]
fn the_newest_denials_are_remembered_and_not_what_they_were_about() {
    let policies = policies();
    let start = Instant::now();
    let denial = Ok(Findings::default());
    for room in 0..DENIALS_KEPT + 5 {
        // A key is all that is kept, of whatever headers.
        policies.remember(key(&room.to_string()), &denial, start);
    }
    assert_eq!(size_of::<Key>(), 32);
    assert_eq!(lock(&policies.denials).len(), DENIALS_KEPT);
    assert_eq!(policies.remembered(&key("4"), start), None);
    assert_eq!(policies.remembered(&key("5"), start), Some(denial.clone()));
    // One that is denied again stays for its full time.
    let later = start + Duration::from_secs(9);
    policies.remember(key("5"), &denial, later);
    assert_eq!(policies.remembered(&key("5"), later + Duration::from_secs(9)), Some(denial));
    assert_eq!(policies.remembered(&key("6"), later + Duration::from_secs(9)), None);
}

#[tokio::test]
async fn a_database_that_is_away_is_told_apart_from_a_no() {
    let policies = policies();
    let answer = policies.ask("room", &ANON, &headers(), HERE).await;
    assert_eq!(answer, Err(PolicyError::Unreachable));
    assert_eq!(policies.turns.crowd(), 0);
    assert!(lock(&policies.asking).is_empty());
}

#[tokio::test]
async fn who_waits_is_bounded() {
    let policies = policies();
    let payer = ANON.payer(HERE);
    let places: Vec<_> = (0..200).map(|room| policies.turns.line_up(payer, key(&room.to_string()))).collect();
    assert!(places.iter().all(Result::is_ok));
    let answer = policies.ask("room", &ANON, &headers(), HERE).await;
    assert_eq!(answer, Err(PolicyError::Exhausted));
    assert!(lock(&policies.asking).is_empty());
}

#[tokio::test]
async fn who_goes_away_leaves_nothing_behind() {
    let policies = policies();
    let _busy = policies.turns.line_up(ANON.payer(HERE), key("busy")).unwrap().turn().await.unwrap();
    for room in 0..100 {
        // Tokio lets a task do only so much before it yields.
        tokio::task::yield_now().await;
        let (room, headers) = (room.to_string(), headers());
        let [mut first, mut second] = [0, 1].map(|_| policies.ask(&room, &ANON, &headers, HERE).boxed());
        assert!((&mut first).now_or_never().is_none() && (&mut second).now_or_never().is_none());
        assert_eq!(policies.turns.crowd(), 2, "one of the two speaks for both");
        drop(first);
        assert!((&mut second).now_or_never().is_none());
        assert_eq!((policies.turns.crowd(), lock(&policies.asking).len()), (2, 1), "the other does now");
        drop(second);
        assert_eq!((policies.turns.crowd(), lock(&policies.asking).len()), (1, 0));
    }
    assert_eq!(policies.metrics.policy_askers.get(), 0);
}

#[tokio::test]
async fn an_answer_is_for_all_who_ask_the_same_and_a_full_queue_is_not() {
    let policies = policies();
    let headers = headers();
    let busy = policies.turns.line_up(ANON.payer(HERE), key("busy")).unwrap().turn().await.unwrap();
    let there = Some([10, 0, 0, 1].into());
    let mut here = policies.ask("room", &ANON, &headers, HERE).boxed();
    let mut others = policies.ask("room", &ANON, &headers, there).boxed();
    assert!((&mut here).now_or_never().is_none() && (&mut others).now_or_never().is_none());
    assert_eq!(policies.turns.crowd(), 3, "they pay for themselves");
    let account = ANON.payer(HERE).account;
    let inquiry = Arc::clone(&lock(&policies.asking)[&key("room")][&account]);
    policies.settle(key("room"), account, &inquiry, &Err(PolicyError::Exhausted));
    assert_eq!((&mut here).now_or_never(), Some(Err(PolicyError::Exhausted)));
    assert!((&mut others).now_or_never().is_none());
    let mut here = policies.ask("room", &ANON, &headers, HERE).boxed();
    assert!((&mut here).now_or_never().is_none());
    policies.settle(key("room"), account, &inquiry, &Ok(Findings::default()));
    assert_eq!(here.now_or_never(), Some(Ok(Findings::default())));
    assert_eq!(others.now_or_never(), Some(Ok(Findings::default())));
    drop(busy);
    assert_eq!(policies.turns.crowd(), 0);
    assert!(lock(&policies.asking).is_empty());
}
