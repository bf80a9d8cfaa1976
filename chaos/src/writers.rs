//! What an application does to its database, and some of what it should not do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use campfire_tests::cluster;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::plan::Plan;
use crate::world::World;

/// Content of what is rolled back begins so: nobody may ever see it.
pub const ROLLED_BACK: &str = "rolled back";

const PAUSE_MS: std::ops::Range<u64> = 5..60;

/// Before a writer tries again to reach a server that is gone.
const RECONNECT_PAUSE: Duration = Duration::from_millis(200);

#[derive(Default)]
pub struct Tally {
    pub committed: AtomicU64,
    pub rolled_back: AtomicU64,
    pub failed: AtomicU64,
}

pub struct Writer {
    number: usize,
    url: String,
    world: World,
    rng: StdRng,
    serial: u64,
    tally: Arc<Tally>,
    /// Writes messages and does nothing else.
    is_steady: bool,
}

/// How an attempt ended.
enum Outcome {
    Committed,
    RolledBack,
}

impl Writer {
    pub fn new(number: usize, url: String, plan: &Plan, tally: Arc<Tally>) -> Self {
        let rng = StdRng::seed_from_u64(plan.seed ^ (0xabc0 + number as u64));
        Self { number, url, world: plan.world.clone(), rng, serial: 0, tally, is_steady: plan.is_steady }
    }

    /// Writes until stopped. Errors are part of it: servers go away, locks time out.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            if let Ok(client) = cluster::connect(&self.url).await {
                self.write(&client, &mut stop).await;
            } else {
                sleep(RECONNECT_PAUSE).await;
            }
        }
    }

    async fn write(&mut self, client: &Client, stop: &mut watch::Receiver<bool>) {
        let limits =
            "set lock_timeout = '1500ms'; set statement_timeout = '10s'; set client_min_messages = error";
        if client.batch_execute(limits).await.is_err() {
            return;
        }
        while !*stop.borrow() && !client.is_closed() {
            let counter = match self.act(client).await {
                Ok(Outcome::Committed) => &self.tally.committed,
                Ok(Outcome::RolledBack) => &self.tally.rolled_back,
                Err(_) => {
                    client.batch_execute("rollback").await.ok();
                    &self.tally.failed
                }
            };
            counter.fetch_add(1, Ordering::Relaxed);
            sleep(Duration::from_millis(self.rng.random_range(PAUSE_MS))).await;
        }
    }

    async fn act(&mut self, client: &Client) -> Result<Outcome> {
        let kind = if self.is_steady { 0 } else { self.rng.random_range(0..116) };
        let script = match kind {
            0..30 => self.message(),
            100..103 => self.post_to_desk(),
            103 => self.burst(),
            104.. => self.order(),
            30..36 => return self.long_transaction(client).await,
            36..44 => self.savepoints(),
            44..50 => return self.rollback(client).await,
            50 => self.import(),
            51 | 52 => self.definition(),
            53..57 => self.toast(),
            57..61 => self.move_conversation(),
            61..63 => self.delete_conversation(),
            63..67 => self.switch_agent(),
            67..75 => self.receipt(),
            75..84 => self.touch(),
            84..87 => self.delete_message(),
            87..92 => self.broadcast(),
            92 | 93 => self.forgery(),
            94 | 95 => self.early_message(),
            96 | 97 => self.asynchronous(),
            _ => self.nothing_new(),
        };
        client.batch_execute(&script).await?;
        Ok(Outcome::Committed)
    }

    fn content(&mut self) -> String {
        self.serial += 1;
        format!("writer {} no {}", self.number, self.serial)
    }

    fn conversation(&mut self) -> Uuid {
        let all: Vec<Uuid> = self.world.conversations().collect();
        *all.choose(&mut self.rng).expect("there are conversations")
    }

    fn nomad(&mut self) -> Uuid {
        let organization = self.world.organizations.choose(&mut self.rng).expect("there are organizations");
        *organization.nomads().choose(&mut self.rng).expect("some move")
    }

    fn organization(&mut self) -> Uuid {
        self.world.organizations.choose(&mut self.rng).expect("there are organizations").id
    }

    /// Into whatever organization the conversation is in by now.
    fn insert(&mut self, content: &str) -> String {
        let conversation = self.conversation();
        insert_into(conversation, content)
    }

    fn message(&mut self) -> String {
        let content = self.content();
        self.insert(&content)
    }

    async fn long_transaction(&mut self, client: &Client) -> Result<Outcome> {
        client.batch_execute("begin").await?;
        for _ in 0..self.rng.random_range(2..6) {
            // As if it were not known yet how this ends: it is, so that what must not be seen can say so.
            let content = self.content();
            let insert = self.insert(&content);
            client.batch_execute(&insert).await?;
            sleep(Duration::from_millis(self.rng.random_range(50..400))).await;
        }
        client.batch_execute("commit").await?;
        Ok(Outcome::Committed)
    }

    fn savepoints(&mut self) -> String {
        let (kept, also, gone) =
            (self.content(), self.content(), format!("{ROLLED_BACK} {}", self.content()));
        let (first, second) = (self.insert(&kept), self.insert(&also));
        let lost = self.insert(&gone);
        format!(
            "begin; {first}; savepoint a; {lost}; rollback to a; savepoint b; {second}; release b; \
             savepoint c; {lost}; savepoint d; {lost}; rollback to c; commit"
        )
    }

    async fn rollback(&mut self, client: &Client) -> Result<Outcome> {
        let content = format!("{ROLLED_BACK} {}", self.content());
        let insert = self.insert(&content);
        let channel = format!("org:{}", self.organization());
        let broadcast = format!("select campfire.broadcast('{channel}', '{ROLLED_BACK}', '{{}}')");
        let send = format!("select realtime.send('{{}}', '{ROLLED_BACK}', '{}')", self.desk());
        client.batch_execute(&format!("begin; {insert}; {broadcast}; {send}; rollback")).await?;
        Ok(Outcome::RolledBack)
    }

    fn import(&mut self) -> String {
        let rows = self.rng.random_range(300..2_000);
        let content = self.content();
        if self.rng.random_ratio(1, 3) {
            // All into one conversation, and more than an outbox has room for.
            let (conversation, rows) = (self.conversation(), rows + 1_000);
            return format!(
                "insert into messages (organization_id, conversation_id, content, sender_type)
                 select organization_id, id, '{content} row ' || n, 'ai'
                 from conversations, generate_series(1, {rows}) as n where id = '{conversation}'"
            );
        }
        format!(
            "insert into messages (organization_id, conversation_id, content, sender_type)
             select c.organization_id, c.id, '{content} row ' || n, 'ai'
             from generate_series(1, {rows}) as n
             join (select *, row_number() over (order by id) - 1 as place, count(*) over () as many
                   from conversations) as c on n % c.many = c.place"
        )
    }

    fn definition(&mut self) -> String {
        let column = format!("chaos_{}", self.number);
        let table = *["messages", "conversations", "read_receipts"].choose(&mut self.rng).expect("tables");
        let kind = *["text", "jsonb", "integer[] default '{1}'"].choose(&mut self.rng).expect("types");
        match self.rng.random_range(0..5) {
            // A table that is published whole takes only what can be published.
            0 if table == "read_receipts" => {
                format!("alter table {table} add column if not exists {column} text")
            }
            0 => format!("alter table {table} add column if not exists {column} {kind}"),
            1 => format!("alter table {table} drop column if exists {column}"),
            2 => format!(
                "create index if not exists {column}_index on {table} (organization_id, conversation_id)"
            )
            .replace(
                "conversations (organization_id, conversation_id)",
                "conversations (organization_id, status)",
            ),
            3 => format!("drop index if exists {column}_index"),
            _ => {
                let event = *crate::model::SWITCHED.choose(&mut self.rng).expect("events");
                let on: bool = self.rng.random();
                format!(
                    "select campfire.enable_route(id, {on}) from campfire.routes where event = '{event}' and channel like '%:conv:%'"
                )
            }
        }
    }

    fn toast(&mut self) -> String {
        let content = self.content();
        let conversation = self.conversation();
        let pieces = self.rng.random_range(100..1_500);
        // Not compressible, so that it goes out of line; then an update that leaves it there.
        format!(
            "begin;
             insert into messages (id, organization_id, conversation_id, content, sender_type)
             select '{id}', organization_id, id, '{content} ' ||
               (select string_agg(md5(random()::text), '') from generate_series(1, {pieces})), 'visitor'
             from conversations where id = '{conversation}';
             update messages set metadata = '{{\"seen\": true}}' where id = '{id}';
             commit",
            id = crate::world::uuid(&mut self.rng)
        )
    }

    fn move_conversation(&mut self) -> String {
        let (nomad, organization) = (self.nomad(), self.organization());
        let content = self.content();
        let insert = insert_into(nomad, &content);
        format!(
            "begin; {insert}; update conversations set organization_id = '{organization}', assignee_id = null
             where id = '{nomad}'; {insert}; commit"
        )
    }

    /// The same id comes back later, perhaps elsewhere.
    fn delete_conversation(&mut self) -> String {
        let (nomad, organization) = (self.nomad(), self.organization());
        if self.rng.random() {
            format!("delete from conversations where id = '{nomad}'")
        } else {
            format!(
                "insert into conversations (id, organization_id, customer_name)
                 values ('{nomad}', '{organization}', 'Vera again') on conflict (id) do nothing"
            )
        }
    }

    fn switch_agent(&mut self) -> String {
        let organization = self.world.organizations.choose(&mut self.rng).expect("there are organizations");
        let user = *organization.switched().choose(&mut self.rng).expect("some are switched");
        let active = self.rng.random_ratio(2, 3);
        let content = self.content();
        let conversation = self.conversation();
        // With traffic in the same transaction, before and after.
        let insert = insert_into(conversation, &content);
        format!(
            "begin; {insert}; update agents set active = {active} where user_id = '{user}'; {insert}; commit"
        )
    }

    fn receipt(&mut self) -> String {
        let conversation = self.conversation();
        let message = crate::world::uuid(&mut self.rng);
        format!(
            "insert into read_receipts (conversation_id, organization_id, reader_type, reader_id, last_read_message_id)
             select id, organization_id, 'visitor', id, '{message}' from conversations where id = '{conversation}'
             on conflict (conversation_id, reader_id) do update
             set last_read_message_id = excluded.last_read_message_id, read_at = excluded.read_at"
        )
    }

    fn touch(&mut self) -> String {
        let conversation = self.conversation();
        let change = *[
            "status = 'pending'",
            "status = 'open'",
            "priority = 'high'",
            "assignee_id = (select user_id from agents as a where a.organization_id = conversations.organization_id
                            order by random() limit 1)",
            "customer_name = 'Vera \"the\" visitor\\ ' || chr(9) || random()",
            "metadata = '{\"internal\": 1}'",
            "updated_at = clock_timestamp()",
        ]
        .choose(&mut self.rng)
        .expect("changes");
        format!("update conversations set {change} where id = '{conversation}'")
    }

    fn delete_message(&mut self) -> String {
        let conversation = self.conversation();
        format!(
            "delete from messages where id in (select id from messages where conversation_id = '{conversation}' limit 3)"
        )
    }

    fn broadcast(&mut self) -> String {
        let (conversation, organization) = (self.conversation(), self.organization());
        let content = self.content();
        let channel = match self.rng.random_range(0..4) {
            0 => format!("org:{organization}"),
            1 => format!("org:{organization}:conversations"),
            2 => format!("bcast:org:{organization}:conv:{conversation}"),
            _ => format!("org:{organization}:widget:{conversation}"),
        };
        format!(
            "begin; select campfire.broadcast('{channel}', 'chaos:said', '{{\"text\": \"{content}\", \"n\": 1}}'); commit"
        )
    }

    fn desk(&mut self) -> String {
        self.world.organizations.choose(&mut self.rng).expect("there are organizations").desk()
    }

    /// To a private channel, with a row of the chat before and after; or to the public channel of that name, where
    /// nobody is.
    fn post_to_desk(&mut self) -> String {
        let (desk, content, private) = (self.desk(), self.content(), self.rng.random_ratio(3, 4));
        let insert = self.insert(&content);
        format!(
            "begin; {insert};
             select realtime.send('{{\"text\": \"{content}\", \"n\": 1}}', 'chaos:said', '{desk}', {private});
             {insert}; commit"
        )
    }

    /// A row of the application's own table: made, changed, moved to another shop, deleted, several at once.
    fn order(&mut self) -> String {
        let (id, content) = (self.rng.random_range(1..=crate::world::ORDERS), self.content());
        let shop = self.organization();
        let change = |what: &str| {
            format!("update orders set version = nextval('order_versions'), {what} where id = {id}")
        };
        let make = format!(
            "insert into orders (id, shop, note) values ({id}, '{shop}', '{content}') on conflict (id) do nothing"
        );
        let note = change(&format!("note = '{content}'"));
        let to_another = change(&format!("shop = '{shop}'"));
        match self.rng.random_range(0..12) {
            0..4 => make,
            4..7 => note,
            7 | 8 => to_another,
            9 => format!("delete from orders where id = {id}"),
            10 => format!(
                "begin; {note}; savepoint a; {to_another}; delete from orders where id = {id}; rollback to a;
                 {make}; select pg_sleep(0.2); {to_another}; commit"
            ),
            // In the order of the key, so that two of these do not deadlock.
            _ => format!(
                "update orders set version = nextval('order_versions'), note = '{content}' where id in (
                   select id from orders where shop = '{shop}' order by id for update)"
            ),
        }
    }

    /// More events of one channel in one transaction than an outbox has room for.
    fn burst(&mut self) -> String {
        let (count, content) = (self.rng.random_range(1_100..2_500), self.content());
        let one = if self.rng.random() {
            format!(
                "realtime.send(jsonb_build_object('text', '{content}', 'n', n), 'chaos:burst', '{}')",
                self.desk()
            )
        } else {
            let payload = format!("jsonb_build_object('text', '{content}', 'n', n)");
            format!(
                "campfire.broadcast('org:{}:conversations', 'chaos:burst', {payload})",
                self.organization()
            )
        };
        format!("select {one} from generate_series(1, {count}) as n")
    }

    /// As any role may write it.
    fn forgery(&mut self) -> String {
        let organization = self.organization();
        format!(
            "select pg_logical_emit_message(true, 'campfire.broadcast',
               E'v1 1 {}\\norg:{organization}\\n{}:said\\n{{}}')",
            "0".repeat(64),
            crate::model::FORGED
        )
    }

    /// Not transactional: in the WAL at once, also if this rolls back.
    fn early_message(&mut self) -> String {
        let organization = self.organization();
        let content = self.content();
        let insert = self.insert(&content);
        format!(
            "begin; select pg_logical_emit_message(false, 'campfire.broadcast', E'v1 1 00\\norg:{organization}\\nearly\\n{{}}'); {insert}; commit"
        )
    }

    fn asynchronous(&mut self) -> String {
        let content = self.content();
        let insert = self.insert(&content);
        format!("begin; set local synchronous_commit = off; {insert}; commit")
    }

    fn nothing_new(&mut self) -> String {
        let conversation = self.conversation();
        format!("update conversations set status = status where id = '{conversation}'")
    }
}

fn insert_into(conversation: Uuid, content: &str) -> String {
    format!(
        "insert into messages (organization_id, conversation_id, content, sender_type, sender_name, sender_email)
         select organization_id, id, '{content}', 'agent', 'Ada', 'ada@example.com'
         from conversations where id = '{conversation}'"
    )
}
