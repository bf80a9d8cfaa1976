//! The pool of sessions that serve clients: how many there are, and which of them are used again.

use std::time::Duration;

use campfire_relay::postgres::Purpose;
use campfire_relay::sql::{Lease, Sessions};

use crate::cluster::Cluster;

async fn pid(session: &Lease) -> i32 {
    session.query_one("select pg_backend_pid()", &[]).await.expect("a session that works").get(0)
}

#[tokio::test]
async fn sessions_are_bounded_and_only_what_was_given_back_is_used_again() {
    let (cluster, _) = Cluster::boot("").await;
    let sessions = Sessions::new(cluster.database("postgres"), 2);
    let take = async |purpose| sessions.take(purpose).await.expect("a session");

    let first = take(Purpose::Rows).await;
    let kept = pid(&first).await;
    first.give_back();
    let again = take(Purpose::Rows).await;
    assert_eq!(pid(&again).await, kept);

    let cut_off = take(Purpose::Rows).await;
    cut_off.batch_execute("begin").await.expect("begun");
    let closed = pid(&cut_off).await;
    let waiting = tokio::time::timeout(Duration::from_millis(300), sessions.take(Purpose::Rows)).await;
    assert!(waiting.is_err(), "two are on loan");
    drop(cut_off);
    let other = take(Purpose::Rows).await;
    let other_pid = pid(&other).await;
    assert!(![kept, closed].contains(&other_pid), "it was in the midst of something");

    // A session is for one purpose. The two that are idle make room for one of another.
    again.give_back();
    other.give_back();
    let policies = take(Purpose::Policies).await;
    assert!(![kept, other_pid].contains(&pid(&policies).await));
    let rows = take(Purpose::Rows).await;
    assert_eq!(pid(&rows).await, other_pid, "the one that has been idle for longest is closed");
    let open = "select count(*) from pg_stat_activity where pid = any($1)";
    let gone = async || rows.query_one(open, &[&vec![kept, closed]]).await.expect("counted").get::<_, i64>(0);
    crate::wait::eventually("both are gone", async || (gone().await == 0).then_some(())).await;
}

#[tokio::test]
async fn a_session_that_the_server_ended_is_not_lent_again() {
    let (cluster, sql) = Cluster::boot("").await;
    let sessions = Sessions::new(cluster.database("postgres"), 1);
    let session = sessions.take(Purpose::Rows).await.expect("a session");
    let ended = pid(&session).await;
    session.give_back();
    sql.execute("select pg_terminate_backend($1, 10000)", &[&ended]).await.expect("ended");
    crate::wait::eventually("another is lent", async || {
        let session = sessions.take(Purpose::Rows).await.expect("a session");
        let other = session.query_one("select pg_backend_pid()", &[]).await.ok()?.get::<_, i32>(0);
        (other != ended).then_some(())
    })
    .await;
}
