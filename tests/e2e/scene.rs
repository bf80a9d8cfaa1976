//! What nearly every test starts with: a cluster, a relay that has caught up, and
//! a superuser's session.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use campfire_tests::cluster::Options;
use campfire_tests::fence::Fence;
use campfire_tests::relay::Settings;
use campfire_tests::socket::Vsn;
use campfire_tests::{AGENT, Cluster, ORGANIZATION, Relay, Socket, chat, eventually, server, token};
pub(crate) use campfire_tests_macros::scene_test;
use tokio_postgres::Client;
use uuid::Uuid;

/// Dropped in this order: the relay must not see Postgres go.
pub(crate) struct Scene {
    pub(crate) relay: Relay,
    pub(crate) database: Client,
    pub(crate) cluster: Cluster,
}

/// Runs a test in a scene; `#[scene_test]` does, too. A failure becomes a panic while the scene still stands,
/// so that its destructors know to keep the cluster and to print the log.
pub(crate) async fn with_scene(test: impl AsyncFnOnce(&mut Scene) -> Result<()>) {
    with_settings(|settings| settings, test).await;
}

/// A text is in the log, and not more often than once in an interval, since the test began with it.
pub(crate) async fn is_logged_seldom(
    relay: &Relay,
    text: &str,
    began: Instant,
    interval: Duration,
) -> Result<()> {
    relay.wait_for_log(text).await;
    let lines = relay.log().iter().filter(|line| line.contains(text)).count();
    let elapsed = began.elapsed();
    let most = 1 + (elapsed.as_secs() / interval.as_secs()) as usize;
    ensure!((1..=most).contains(&lines), "{lines} lines with {text:?} in {elapsed:?}");
    Ok(())
}

/// [`with_scene`] with a relay that is set differently.
pub(crate) async fn with_settings(
    change: impl FnOnce(Settings) -> Settings,
    test: impl AsyncFnOnce(&mut Scene) -> Result<()>,
) {
    with_cluster(Options::default(), change, test).await;
}

/// [`with_settings`] on a Postgres that is set differently, too.
pub(crate) async fn with_cluster(
    options: Options,
    change: impl FnOnce(Settings) -> Settings,
    test: impl AsyncFnOnce(&mut Scene) -> Result<()>,
) {
    let cluster = Cluster::boot_with(options).expect("a throwaway Postgres");
    let settings = Settings::of(&cluster).expect("settings for a relay");
    let relay = change(settings).start().await.expect("a relay that is ready");
    let database = cluster.connect().await.expect("a superuser's session");
    let mut scene = Scene { relay, database, cluster };
    if let Err(error) = test(&mut scene).await {
        panic!("{error:#}");
    }
}

impl Scene {
    /// The seeded agent's token.
    pub(crate) fn agent(&self) -> String {
        token::agent(self.secret(), ORGANIZATION, AGENT)
    }

    /// The token of the visitor of a conversation in the seeded organization.
    pub(crate) fn visitor(&self, conversation: Uuid) -> String {
        token::visitor(self.secret(), ORGANIZATION, conversation)
    }

    /// What tokens are signed with.
    pub(crate) fn secret(&self) -> &str {
        &self.cluster.credentials.jwt_secret
    }

    /// A conversation in the seeded organization, whose events the relay has already
    /// sent: who joins now hears only of what comes after.
    pub(crate) async fn conversation(&self) -> Result<Uuid> {
        let org = chat::organization_channel(ORGANIZATION);
        let mut witness = self.dashboard(Vsn::V2, &[&org]).await?;
        let id = chat::open_conversation(&self.database, ORGANIZATION, "Vera Visitor").await?;
        loop {
            let event = witness.next_event().await?;
            if event.name == "conversation:created" && event.payload["id"] == id.to_string() {
                return Ok(id);
            }
        }
    }

    /// Waits until the relay has applied all that has committed so far: agents and
    /// organizations become known to it by their place in the WAL.
    pub(crate) async fn settle(&self) -> Result<()> {
        let list = chat::conversations_channel(ORGANIZATION);
        let mut witness = self.dashboard(Vsn::V2, &[&list]).await?;
        let fence = Fence::conversation(&self.database, ORGANIZATION).await?;
        witness.events_before(&fence, &list).await.map(drop)
    }

    /// From here on commits wait for a synchronous standby that does not exist; those of our own session do not.
    pub(crate) async fn name_dead_standby(&self) -> Result<()> {
        self.database.batch_execute("set synchronous_commit = local").await?;
        self.database.batch_execute("alter system set synchronous_standby_names = 'nobody'").await?;
        self.database.batch_execute("select pg_reload_conf()").await?;
        eventually("a standby is waited for", async || {
            let row = self.database.query_one("show synchronous_standby_names", &[]).await.ok()?;
            (row.get::<_, &str>(0) == "nobody").then_some(())
        })
        .await;
        Ok(())
    }

    /// Runs `work` while nobody reads the slot. The relay is stopped meanwhile, so that it cannot come back to it.
    pub(crate) async fn with_free_slot(&self, work: impl AsyncFnOnce(&Client) -> Result<()>) -> Result<()> {
        let pid = self.relay.pid();
        ensure!(server::signal(pid, "STOP"), "the relay runs");
        let done = async {
            let end = "select pg_terminate_backend(active_pid) from pg_replication_slots
                       where slot_name = 'campfire' and active";
            self.database.execute(end, &[]).await?;
            eventually("nobody reads the slot", async || {
                let free = "select from pg_replication_slots where slot_name = 'campfire' and not active";
                self.database.query_opt(free, &[]).await.ok()?.map(drop)
            })
            .await;
            work(&self.database).await
        };
        let outcome = done.await;
        ensure!(server::signal(pid, "CONT"), "the relay runs still");
        outcome
    }

    /// A socket that has joined nothing.
    pub(crate) async fn socket(&self, vsn: Vsn) -> Result<Socket> {
        Socket::connect(&self.relay, &self.cluster.credentials.api_key, vsn).await
    }

    /// A socket of the seeded agent on these channels.
    pub(crate) async fn dashboard(&self, vsn: Vsn, channels: &[&str]) -> Result<Socket> {
        let mut socket = self.socket(vsn).await?;
        for channel in channels {
            socket.join(channel, &self.agent()).await?;
        }
        Ok(socket)
    }

    /// A visitor's socket on the widget channel of its conversation.
    pub(crate) async fn widget(&self, vsn: Vsn, conversation: Uuid) -> Result<Socket> {
        let mut socket = self.socket(vsn).await?;
        let channel = chat::widget_channel(ORGANIZATION, conversation);
        socket.join(&channel, &self.visitor(conversation)).await?;
        Ok(socket)
    }

    /// Inserts messages, each a transaction of its own.
    pub(crate) async fn write_messages(&self, conversation: Uuid, contents: &[String]) -> Result<()> {
        let statement = self
            .database
            .prepare(
                "insert into messages (organization_id, conversation_id, content, sender_type)
                 values ($1, $2, $3, 'visitor')",
            )
            .await?;
        for content in contents {
            self.database.execute(&statement, &[&ORGANIZATION, &conversation, content]).await?;
        }
        Ok(())
    }
}

/// `prefix 1`, `prefix 2`, …
pub(crate) fn numbered(prefix: &str, count: usize) -> Vec<String> {
    (1..=count).map(|number| format!("{prefix} {number}")).collect()
}

/// The contents of message events, in order.
pub(crate) fn contents(events: &[campfire_tests::socket::Event]) -> Vec<String> {
    events.iter().map(|event| event.payload["content"].as_str().unwrap_or_default().to_owned()).collect()
}
