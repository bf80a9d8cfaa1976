//! Rows of a gated route: no member gets one that its gate refuses, live, replayed, in snapshots, after an update and
//! after a new token; and each member can keep its own rows exactly by what it gets.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use campfire_tests::socket::{Event, Socket, Vsn, default_config};
use campfire_tests::{eventually, token};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::policies::silent;
use crate::scene::{Scene, scene_test};

const ADA: &str = "aaaaaaaa-0000-4000-8000-000000000001";
const BOB: &str = "bbbbbbbb-0000-4000-8000-000000000002";
const EVE: &str = "eeeeeeee-0000-4000-8000-000000000003";

const GATE: &str = "seller = claims.sub or claims.manager";
const CHANNEL: &str = "shop:7";

/// A table without row-level security, which everybody may read: the gate alone decides.
async fn make(scene: &Scene) -> Result<()> {
    let add = |operation: &str, event: &str, more: &str| {
        format!(
            "select campfire.add_route('orders', '{operation}', 'shop:{{shop}}', 'order:{event}', gate => '{GATE}'{more});"
        )
    };
    let routes = [
        add("INSERT", "created", ", on_move => true"),
        add("UPDATE", "updated", ""),
        add("DELETE", "deleted", ", on_move => true"),
    ];
    let tables =
        "create table orders (id int primary key, shop int not null, seller uuid, state text not null);
         alter table orders replica identity full;
         grant select on orders to authenticated;
         select campfire.install_private_channels();
         create policy shops on campfire.private_channels for select to authenticated
           using (extension = 'broadcast' and campfire.topic() like 'shop:%');
         select campfire.publish('campfire', 'orders');";
    Ok(scene.database.batch_execute(&format!("{tables}{}", routes.concat())).await?)
}

fn claims(sub: &str, manager: bool) -> Value {
    json!({"role": "authenticated", "sub": sub, "manager": manager, "exp": token::in_an_hour()})
}

fn private(replay: Value) -> Value {
    let mut config = default_config();
    config["private"] = true.into();
    if !replay.is_null() {
        config["broadcast"]["replay"] = replay;
    }
    config
}

/// What a gate says of a row, as this file understands it.
fn may_see(claims: &Value, row: &Value) -> bool {
    claims["manager"] == true || !row["seller"].is_null() && row["seller"] == claims["sub"]
}

/// A client that keeps the rows of its shop by what it is told.
struct Member {
    socket: Socket,
    vsn: Vsn,
    claims: Value,
    rows: BTreeMap<i64, Value>,
    /// The id of the last event.
    last: Option<String>,
}

impl Member {
    async fn join(scene: &Scene, vsn: Vsn, claims: Value, replay: Value) -> Result<Self> {
        let socket = scene.socket(vsn).await?;
        let mut member = Self { socket, vsn, claims, rows: BTreeMap::new(), last: None };
        member.enter(scene, replay).await?;
        Ok(member)
    }

    /// The same by another connection.
    async fn enter_anew(&mut self, scene: &Scene, replay: Value) -> Result<Value> {
        self.socket = scene.socket(self.vsn).await?;
        self.enter(scene, replay).await
    }

    async fn enter(&mut self, scene: &Scene, replay: Value) -> Result<Value> {
        let token = token::mint(scene.secret(), &self.claims);
        let reply = self.socket.try_join(CHANNEL, Some(&token), private(replay)).await?;
        ensure!(reply.is_ok(), "{reply:?}");
        Ok(reply.response["replay"].clone())
    }

    /// Comes back where it was.
    async fn come_back(&mut self, scene: &Scene) -> Result<()> {
        let after = self.last.clone().context("it had an event")?;
        let replay = self.enter_anew(scene, json!({"after": after})).await?;
        ensure!(replay["complete"] == true, "{replay}");
        Ok(())
    }

    fn apply(&mut self, event: &Event) -> Result<()> {
        let row = &event.payload;
        ensure!(may_see(&self.claims, row), "{} is told of {event:?}", self.claims);
        let id = row["id"].as_i64().context("an id")?;
        let known = match event.name.as_str() {
            "order:created" => self.rows.insert(id, row.clone()).is_none(),
            "order:updated" => self.rows.insert(id, row.clone()).is_some(),
            "order:deleted" => self.rows.remove(&id).is_some(),
            _ => false,
        };
        ensure!(known, "{} did not expect {event:?}", self.claims);
        if event.meta["id"].is_string() {
            self.last = Some(event.id().to_owned());
        }
        Ok(())
    }

    /// Reads until it is told of this row.
    async fn read_up_to(&mut self, state: &str) -> Result<()> {
        loop {
            let event = self.socket.next_event().await?;
            self.apply(&event)?;
            if event.payload["state"] == state {
                return Ok(());
            }
        }
    }

    /// The rows that it has are those that it may see.
    async fn check(&self, scene: &Scene) -> Result<()> {
        let rows =
            scene.database.query("select id, to_jsonb(o)::text from orders as o where shop = 7", &[]).await?;
        let mut expected = BTreeMap::new();
        for row in rows {
            let (id, json): (i32, String) = (row.get(0), row.get(1));
            let json: Value = serde_json::from_str(&json)?;
            if may_see(&self.claims, &json) {
                expected.insert(i64::from(id), json);
            }
        }
        ensure!(self.rows == expected, "{} has {:?} instead of {expected:?}", self.claims, self.rows);
        Ok(())
    }
}

/// Writes whatever may happen to an order.
struct Writer {
    random: StdRng,
    last: i32,
}

impl Writer {
    fn new() -> Self {
        let seed = rand::random();
        println!("seed {seed}");
        Self { random: StdRng::seed_from_u64(seed), last: 0 }
    }

    fn seller(&mut self) -> String {
        let seller = [Some(ADA), Some(BOB), Some(EVE), None].choose(&mut self.random).copied().flatten();
        seller.map_or("null".to_owned(), |seller| format!("'{seller}'"))
    }

    fn statement(&mut self) -> String {
        let (kind, seller) = (self.random.random_range(0..10), self.seller());
        let some = format!("id % 5 = {}", self.random.random_range(0..5));
        match kind {
            0..=4 => {
                self.last += 1;
                let shop = if self.random.random_range(0..4) == 0 { 8 } else { 7 };
                format!("insert into orders values ({}, {shop}, {seller}, 'open');", self.last)
            }
            5 => format!("update orders set state = state || '.' where {some};"),
            6 | 7 => format!("update orders set seller = {seller}, state = 'given' where {some};"),
            8 => format!("update orders set shop = 15 - shop where {some};"),
            _ => format!("delete from orders where {some} and id % 3 = 0;"),
        }
    }

    async fn write(&mut self, scene: &Scene, statements: usize) -> Result<()> {
        let mut left = statements;
        while left > 0 {
            let at_once = self.random.random_range(1..=left.min(20));
            let script: String = (0..at_once).map(|_| self.statement()).collect();
            // One transaction.
            scene.database.batch_execute(&script).await?;
            left -= at_once;
        }
        Ok(())
    }

    /// A row for each seller, which its seller reads up to.
    async fn end(&mut self, scene: &Scene, state: &str) -> Result<()> {
        let mut script = String::new();
        for seller in [ADA, BOB] {
            self.last += 1;
            script += &format!("insert into orders values ({}, 7, '{seller}', '{state}');", self.last);
        }
        Ok(scene.database.batch_execute(&script).await?)
    }
}

async fn members(scene: &Scene) -> Result<Vec<Member>> {
    let mut members = Vec::new();
    for vsn in Vsn::BOTH {
        for claims in [claims(ADA, false), claims(BOB, false), claims(EVE, true)] {
            members.push(Member::join(scene, vsn, claims, json!({})).await?);
        }
    }
    Ok(members)
}

#[scene_test]
async fn each_member_keeps_exactly_the_rows_that_it_may_see(scene: &mut Scene) -> Result<()> {
    make(scene).await?;
    let mut members = members(scene).await?;
    let mut stranger =
        Member::join(scene, Vsn::V2, claims(&uuid::Uuid::new_v4().to_string(), false), Value::Null).await?;
    let mut writer = Writer::new();
    for round in ["end 1", "end 2"] {
        writer.write(scene, 300).await?;
        writer.end(scene, round).await?;
        for member in &mut members {
            member.read_up_to(round).await?;
            if member.claims["manager"] == true {
                // It also gets the row of the second seller.
                member.read_up_to(round).await?;
            }
            member.check(scene).await?;
        }
    }
    silent(&mut stranger.socket).await
}

#[scene_test]
async fn who_comes_back_gets_what_it_may_see_of_what_it_missed(scene: &mut Scene) -> Result<()> {
    make(scene).await?;
    let mut members = members(scene).await?;
    let mut writer = Writer::new();
    for round in ["end 1", "end 2", "end 3"] {
        writer.end(scene, round).await?;
        for member in &mut members {
            member.read_up_to(round).await?;
            if member.claims["manager"] == true {
                member.read_up_to(round).await?;
            }
            member.socket.leave(CHANNEL).await?;
        }
        writer.write(scene, 200).await?;
        writer.end(scene, &format!("{round}, missed")).await?;
        if round == "end 2" {
            scene.relay.kill_9().await?;
            scene.relay.start_again().await?;
        }
        scene.settle().await?;
        for member in &mut members {
            member.come_back(scene).await?;
            for _ in 0..if member.claims["manager"] == true { 2 } else { 1 } {
                member.read_up_to(&format!("{round}, missed")).await?;
            }
            member.check(scene).await?;
        }
    }
    Ok(())
}

/// Their outboxes overflow, so that they go on from the window, in pieces.
#[scene_test]
async fn slow_members_get_what_they_may_see_of_a_burst(scene: &mut Scene) -> Result<()> {
    make(scene).await?;
    let mut members = members(scene).await?;
    for member in &mut members {
        let api_key = &scene.cluster.credentials.api_key;
        member.socket = Socket::connect_narrow(&scene.relay, api_key, member.vsn).await?;
        member.enter(scene, json!({})).await?;
    }
    let mut writer = Writer::new();
    writer.write(scene, 300).await?;
    for pass in 0..30 {
        let seller = ["seller", "null"][pass % 2];
        let others = format!(
            "case seller when '{ADA}' then '{BOB}' when '{BOB}' then '{ADA}' else {seller} end::uuid"
        );
        let script =
            format!("update orders set seller = {others}, state = 'pass {pass} ' || repeat('x', 2000);");
        scene.database.batch_execute(&script).await?;
    }
    writer.end(scene, "end").await?;
    for member in &mut members {
        member.read_up_to("end").await?;
        if member.claims["manager"] == true {
            member.read_up_to("end").await?;
        }
        member.check(scene).await?;
    }
    let lagged = scene.relay.metric("campfire_channels_lagged_total").await?.unwrap_or_default();
    ensure!(lagged > 0.0, "no channel went on from the window");
    Ok(())
}

#[scene_test]
async fn a_snapshot_has_the_newest_rows_that_a_member_may_see(scene: &mut Scene) -> Result<()> {
    make(scene).await?;
    let mut writer = Writer::new();
    writer.write(scene, 300).await?;
    for claims in [claims(ADA, false), claims(BOB, false), claims(EVE, true)] {
        let mut member = Member::join(scene, Vsn::V2, claims, json!({"snapshot": 200})).await?;
        writer.write(scene, 50).await?;
        writer.end(scene, "end").await?;
        // Rows of the snapshot may have the state as well.
        for _ in 0..if member.claims["manager"] == true { 2 } else { 1 } {
            let last = writer.last - i32::from(member.claims["sub"] == ADA);
            while !member.rows.contains_key(&i64::from(last)) {
                let event = member.socket.next_event().await?;
                member.apply(&event)?;
            }
        }
        member.check(scene).await?;
    }
    // The newest, of those that it sees.
    scene.database.batch_execute("truncate orders").await?;
    let rows = format!(
        "insert into orders select n, 7, case n % 10 when 0 then '{ADA}' else '{EVE}' end::uuid, 'open' from generate_series(1, 200) n"
    );
    scene.database.batch_execute(&rows).await?;
    let mut ada = Member::join(scene, Vsn::V1, claims(ADA, false), json!({"snapshot": 5})).await?;
    for _ in 0..5 {
        let event = ada.socket.next_event().await?;
        ada.apply(&event)?;
    }
    let ids: Vec<i64> = ada.rows.keys().copied().collect();
    ensure!(ids == [160, 170, 180, 190, 200], "{ids:?}");
    silent(&mut ada.socket).await
}

#[scene_test]
async fn the_newest_since_are_those_that_a_member_may_see(scene: &mut Scene) -> Result<()> {
    make(scene).await?;
    let _open = Member::join(scene, Vsn::V2, claims(EVE, true), json!({})).await?;
    let rows = format!(
        "insert into orders select n, 7, case n % 10 when 0 then '{ADA}' else '{EVE}' end::uuid, 'open' from generate_series(1, 300) n"
    );
    scene.database.batch_execute(&rows).await?;
    scene.settle().await?;
    for vsn in Vsn::BOTH {
        let mut ada = Member::join(scene, vsn, claims(ADA, false), Value::Null).await?;
        let replay = ada.enter_anew(scene, json!({"since": 0, "limit": 4})).await?;
        ensure!(replay["count"] == 4, "{replay}");
        for _ in 0..4 {
            let event = ada.socket.next_event().await?;
            ada.apply(&event)?;
        }
        let ids: Vec<i64> = ada.rows.keys().copied().collect();
        ensure!(ids == [270, 280, 290, 300], "{ids:?}");
        silent(&mut ada.socket).await?;
    }
    Ok(())
}

#[scene_test]
async fn after_a_new_token_its_claims_decide(scene: &mut Scene) -> Result<()> {
    make(scene).await?;
    for vsn in Vsn::BOTH {
        let mut member = Member::join(scene, vsn, claims(ADA, true), json!({})).await?;
        let insert = async |seller: &str| {
            let script = format!(
                "insert into orders select coalesce(max(id), 0) + 1, 7, '{seller}', 'open' from orders"
            );
            scene.database.batch_execute(&script).await
        };
        insert(BOB).await?;
        let event = member.socket.next_event().await?;
        ensure!(event.payload["seller"] == BOB, "{event:?}");
        member.claims = claims(ADA, false);
        member.socket.set_token(CHANNEL, &token::mint(scene.secret(), &member.claims)).await?;
        ensure!(member.socket.heartbeat().await?.is_ok(), "the token is in force");
        insert(BOB).await?;
        insert(ADA).await?;
        let event = member.socket.next_event().await?;
        ensure!(event.payload["seller"] == ADA, "{event:?}");
        // What it saw before is not replayed to it either.
        let after = event.id().to_owned();
        member.socket.leave(CHANNEL).await?;
        insert(BOB).await?;
        insert(ADA).await?;
        scene.settle().await?;
        let replay = member.enter_anew(scene, json!({"after": after})).await?;
        ensure!(replay["count"] == 1, "{replay}");
        let event = member.socket.next_event().await?;
        ensure!(event.payload["seller"] == ADA, "{event:?}");
        member.claims = claims(BOB, false);
        member.socket.set_token(CHANNEL, &token::mint(scene.secret(), &member.claims)).await?;
        ensure!(member.socket.heartbeat().await?.is_ok());
        insert(ADA).await?;
        insert(BOB).await?;
        let event = member.socket.next_event().await?;
        ensure!(event.payload["seller"] == BOB, "{event:?}");
    }
    Ok(())
}

/// Claims that look like what the gate asks for.
#[scene_test]
async fn claims_of_another_form_let_nothing_through(scene: &mut Scene) -> Result<()> {
    make(scene).await?;
    let mut forged = Vec::new();
    for (sub, manager) in [
        (json!([ADA]), json!("true")),
        (json!({"0": ADA}), json!(1)),
        (json!(format!("{ADA} ")), json!("t")),
        (json!("' or true --"), json!([true])),
        (json!(null), json!(null)),
        (json!(format!("{{{ADA}}}")), json!({"manager": true})),
    ] {
        let claims =
            json!({"role": "authenticated", "sub": sub, "manager": manager, "exp": token::in_an_hour()});
        forged.push(Member::join(scene, Vsn::V2, claims, json!({})).await?);
    }
    let mut ada = Member::join(scene, Vsn::V2, claims(&ADA.to_uppercase(), false), json!({})).await?;
    let rows = format!("insert into orders values (1, 7, '{ADA}', 'open'), (2, 7, null, 'open')");
    scene.database.batch_execute(&rows).await?;
    let event = ada.socket.next_event().await?;
    ensure!(event.payload["id"] == 1, "{event:?}");
    for member in &mut forged {
        silent(&mut member.socket).await?;
        let replay = member.enter_anew(scene, json!({"snapshot": 10})).await?;
        ensure!(replay["count"] == 0, "{} {replay}", member.claims);
        silent(&mut member.socket).await?;
    }
    Ok(())
}

#[scene_test]
async fn without_a_column_of_its_gate_a_route_sends_nothing(scene: &mut Scene) -> Result<()> {
    make(scene).await?;
    let mut ada = Member::join(scene, Vsn::V2, claims(ADA, false), json!({})).await?;
    let mut manager = Member::join(scene, Vsn::V2, claims(EVE, true), json!({})).await?;
    let row = |id: i32| format!("insert into orders values ({id}, 7, '{ADA}', 'open');");
    scene.database.batch_execute(&row(1)).await?;
    ensure!(ada.socket.next_event().await?.payload["id"] == 1);
    ensure!(manager.socket.next_event().await?.payload["id"] == 1);
    scene.relay.expect_log("its gate cannot be read");
    let renamed = "alter table orders rename column seller to vendor;";
    scene.database.batch_execute(renamed).await?;
    scene.database.batch_execute(&row(2)).await?;
    let problems =
        scene.database.query("select problem from campfire.check_publication('campfire')", &[]).await?;
    ensure!(problems.iter().any(|row| row.get::<_, String>(0).contains("gate")), "{problems:?}");
    let replay = ada.enter_anew(scene, json!({"snapshot": 10})).await?;
    ensure!(replay["count"] == 0, "{replay}");
    scene.database.batch_execute("alter table orders rename column vendor to seller;").await?;
    scene.database.batch_execute(&row(3)).await?;
    ensure!(ada.socket.next_event().await?.payload["id"] == 3);
    ensure!(manager.socket.next_event().await?.payload["id"] == 3);
    eventually("the log says so", async || {
        scene.relay.log_text().contains("its gate cannot be read").then_some(())
    })
    .await;
    Ok(())
}

/// A change of the gate counts from its place in the stream on.
#[scene_test]
async fn another_gate_decides_from_its_commit_on(scene: &mut Scene) -> Result<()> {
    make(scene).await?;
    let mut ada = Member::join(scene, Vsn::V2, claims(ADA, false), json!({})).await?;
    let mut bob = Member::join(scene, Vsn::V2, claims(BOB, false), json!({})).await?;
    let narrower = "seller = claims.sub and state <> 'secret'";
    scene
        .database
        .batch_execute(&format!(
            "insert into orders values (1, 7, '{ADA}', 'secret');
             select campfire.drop_route(id) from campfire.routes where event = 'order:created';
             select campfire.add_route('orders', 'INSERT', 'shop:{{shop}}', 'order:created', gate => '{}');
             insert into orders values (2, 7, '{ADA}', 'secret'), (3, 7, '{ADA}', 'open'), (4, 7, '{BOB}', 'open');",
            narrower.replace('\'', "''")
        ))
        .await?;
    let ids = [
        ada.socket.next_event().await?.payload["id"].clone(),
        ada.socket.next_event().await?.payload["id"].clone(),
    ];
    ensure!(ids == [1, 3], "{ids:?}");
    ensure!(bob.socket.next_event().await?.payload["id"] == 4);
    silent(&mut ada.socket).await?;
    silent(&mut bob.socket).await
}
