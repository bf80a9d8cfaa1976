//! A storm of joins on a private channel outside `org:`, which policies in the database decide.
//!
//! The floor is the same crowd on a public channel of the same relay, which nobody has to be asked about. The sockets
//! stay; each round has a channel of its own.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use campfire_tests::relay::{Relay, Settings};
use campfire_tests::socket::{Socket, Vsn, default_config};
use campfire_tests::{AGENT, Cluster, ORGANIZATION, token};
use futures_util::future::try_join_all;
use serde_json::{Value, json};

use crate::step;

const SOCKETS: usize = 1_000;

/// A policy with a look into a table, as applications have them.
const POLICIES: &str = "select campfire.install_supabase_api();
    create table members (room text, user_id uuid, primary key (room, user_id));
    grant select on members to authenticated;
    create policy members on realtime.messages for select to authenticated using (
      exists (select from members as m where m.room = realtime.topic()
                and m.user_id = (current_setting('request.jwt.claims')::jsonb ->> 'sub')::uuid));";

struct Crowd {
    relay: Relay,
    sockets: Vec<Socket>,
}

/// What a round came to.
struct Round {
    took: Duration,
    questions: f64,
}

impl Crowd {
    /// All join a channel at once, each with its token.
    async fn join(&mut self, channel: &str, private: bool, tokens: &[String], joins: bool) -> Result<Round> {
        let mut config = default_config();
        config["private"] = private.into();
        let questions = "campfire_policy_questions_total";
        let before = self.relay.metric(questions).await?.unwrap_or_default();
        let began = Instant::now();
        let all = self.sockets.iter_mut().enumerate().map(|(index, socket)| {
            let token = tokens[index % tokens.len()].as_str();
            socket.try_join(channel, Some(token), config.clone())
        });
        let replies = try_join_all(all).await?;
        let took = began.elapsed();
        for reply in replies {
            ensure!(reply.is_ok() == joins, "{channel}: {reply:?}");
        }
        let after = self.relay.metric(questions).await?.unwrap_or_default();
        Ok(Round { took, questions: after - before })
    }
}

/// Runs the scenario once.
pub(super) async fn measure(relay: &Path) -> Result<Value> {
    let cluster = Cluster::boot()?;
    let database = cluster.connect().await?;
    database.batch_execute(POLICIES).await?;
    let join = "insert into members select room, $1 from unnest('{one token,many tokens}'::text[]) as room";
    database.execute(join, &[&AGENT]).await?;
    let settings = Settings::of(&cluster)?.binary(relay).env("CAMPFIRE_LOG", "warn");
    let settings = settings.env("CAMPFIRE_PUBLIC_CHANNELS", "allow");
    let relay = settings.env("CAMPFIRE_MAX_SOCKETS", &(SOCKETS + 100).to_string()).start().await?;
    let mut sockets = Vec::with_capacity(SOCKETS);
    for _ in 0..SOCKETS {
        sockets.push(Socket::connect(&relay, &cluster.credentials.api_key, Vsn::V2).await?);
    }
    let mut crowd = Crowd { relay, sockets };
    // Two that differ in a claim that nothing asks for are two.
    let token = |number: usize| {
        let mut claims = token::agent_claims(ORGANIZATION, AGENT);
        claims["session"] = number.into();
        token::mint(&cluster.credentials.jwt_secret, &claims)
    };
    let many: Vec<String> = (0..SOCKETS).map(token).collect();
    let one = &many[..1];

    step::announce(&format!("{SOCKETS} sockets join a public channel, and private ones"));
    // The sessions are opened, and all paths warm.
    crowd.join("warm", false, one, true).await?;
    crowd.join("nobody's", true, one, false).await?;
    let floor = crowd.join("public", false, one, true).await?;
    let same = crowd.join("one token", true, one, true).await?;
    let different = crowd.join("many tokens", true, &many, true).await?;
    let denied = crowd.join("closed", true, one, false).await?;
    let again = crowd.join("closed", true, one, false).await?;

    let millis = |round: &Round| (round.took.as_secs_f64() * 1e4).round() / 10.0;
    let ratio = |round: &Round| (round.took.as_secs_f64() / floor.took.as_secs_f64() * 100.0).round() / 100.0;
    Ok(json!({
        "scenario": "joins",
        "sockets": SOCKETS,
        "floor: public, ms": millis(&floor),
        "private, one token, ratio": ratio(&same),
        "private, one token, questions": same.questions,
        "private, a token each, ratio": ratio(&different),
        "private, a token each, questions": different.questions,
        "private, a token each, ms": millis(&different),
        "denied, ratio": ratio(&denied),
        "denied, questions": denied.questions,
        "denied again, ratio": ratio(&again),
        "denied again, questions": again.questions,
    }))
}
