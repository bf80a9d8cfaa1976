//! Clients that mean harm: garbage, floods, wrong tokens, other people's channels, facts made up.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use campfire_tests::socket::{Socket, Vsn, ack_config, default_config};
use campfire_tests::{chat, token};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;

use crate::attack::{Attack, Ground};
use crate::client::Shared;
use crate::world::World;

/// One attack, with its connection.
const PATIENCE: Duration = Duration::from_secs(5);

pub struct Hostile {
    shared: Arc<Shared>,
    world: World,
    ground: Ground,
    rng: StdRng,
    /// What it got and should not have.
    loot: Vec<String>,
}

impl Hostile {
    pub fn new(shared: Arc<Shared>, world: World, ground: Ground, seed: u64) -> Self {
        Self { shared, world, ground, rng: StdRng::seed_from_u64(seed), loot: Vec::new() }
    }

    /// Attacks until stopped; gives what it got.
    pub async fn run(mut self, mut stop: tokio::sync::watch::Receiver<bool>) -> Vec<String> {
        loop {
            let pause = Duration::from_millis(self.rng.random_range(20..300));
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return self.loot,
                // Refused or cut off: what an attack is for.
                _ = timeout(PATIENCE, self.attack()) => {}
            }
            sleep(pause).await;
        }
    }

    async fn attack(&mut self) -> Result<()> {
        let port = *self.shared.ports.choose(&mut self.rng).expect("there is a relay");
        let address = format!("127.0.0.1:{port}");
        let vsn = if self.rng.random() { Vsn::V1 } else { Vsn::V2 };
        let kind = self.rng.random_range(0..8);
        if kind == 7 {
            let attack = *Attack::ALL.choose(&mut self.rng).expect("there are attacks");
            let number = self.rng.random_range(0..20);
            return attack.once(&self.ground, number, &mut self.rng).await;
        }
        if kind == 0 {
            if Socket::try_connect(&address, "no such key", vsn).await?.is_ok() {
                self.loot.push("a socket without a valid key".to_owned());
            }
            return Ok(());
        }
        let Ok(mut socket) = Socket::try_connect(&address, &self.shared.api_key, vsn).await? else {
            bail!("refused");
        };
        match kind {
            1 => self.garbage(&mut socket).await,
            2 => self.flood(&mut socket).await,
            3 => self.foreign_channel(&mut socket).await,
            4 => self.wrong_token(&mut socket).await,
            5 => self.made_up_fact(&mut socket).await,
            _ => self.odd_topics(&mut socket).await,
        }
    }

    async fn garbage(&mut self, socket: &mut Socket) -> Result<()> {
        for _ in 0..20 {
            let bytes: Vec<u8> = (0..self.rng.random_range(0..200)).map(|_| self.rng.random()).collect();
            let message = match self.rng.random_range(0..3) {
                0 => Message::binary(bytes),
                1 => Message::text(String::from_utf8_lossy(&bytes).into_owned()),
                _ => Message::text(r#"["1","1","realtime:x","phx_join",{"config":{"broadcast":7}}]"#),
            };
            socket.send_raw(message).await?;
        }
        Ok(())
    }

    async fn flood(&mut self, socket: &mut Socket) -> Result<()> {
        for _ in 0..500 {
            socket.send_heartbeat().await?;
        }
        Ok(())
    }

    /// A valid agent of one organization, a visitor of one conversation, at the channels of others.
    async fn foreign_channel(&mut self, socket: &mut Socket) -> Result<()> {
        let (mine, theirs) = self.two_organizations();
        let secret = self.shared.jwt_secret.clone();
        let conversation = theirs.1[0];
        let agent = token::agent(&secret, mine.0, mine.2);
        let visitor = token::visitor(&secret, mine.0, mine.1[0]);
        for channel in [
            chat::organization_channel(theirs.0),
            chat::conversations_channel(theirs.0),
            chat::conversation_channel(theirs.0, conversation),
            format!("bcast:{}", chat::widget_channel(theirs.0, conversation)),
        ] {
            for token in [&agent, &visitor] {
                self.expect_refusal(socket, &channel, token).await?;
            }
        }
        for channel in [&theirs.3, &format!("shop:{}", theirs.0)] {
            for replay in [None, Some(json!({"since": 0})), Some(json!({"snapshot": 9}))] {
                for mut config in [default_config(), private_config()] {
                    if let Some(replay) = &replay {
                        config["broadcast"]["replay"] = replay.clone();
                    }
                    if socket.try_join(channel, Some(&agent), config).await?.is_ok() {
                        self.loot.push(format!("a join of {channel}"));
                    }
                }
            }
        }
        let neighbours = [chat::widget_channel(mine.0, mine.1[1]), chat::conversations_channel(mine.0)];
        for channel in neighbours {
            self.expect_refusal(socket, &channel, &visitor).await?;
        }
        Ok(())
    }

    async fn wrong_token(&mut self, socket: &mut Socket) -> Result<()> {
        let (mine, _) = self.two_organizations();
        let channel = chat::conversations_channel(mine.0);
        let stranger = token::agent(&self.shared.jwt_secret, mine.0, Uuid::new_v4());
        let forged = token::agent("not the secret, but as long as one", mine.0, mine.2);
        let mut over = token::agent_claims(mine.0, mine.2);
        over["exp"] = (token::now() - 10).into();
        let over = token::mint(&self.shared.jwt_secret, &over);
        for token in [&stranger, &forged, &over] {
            self.expect_refusal(socket, &channel, token).await?;
        }
        Ok(())
    }

    /// A true agent who says what only the database may say; whoever hears it tells.
    async fn made_up_fact(&mut self, socket: &mut Socket) -> Result<()> {
        let (mine, _) = self.two_organizations();
        let channel = chat::conversation_channel(mine.0, mine.1[0]);
        let token = token::agent(&self.shared.jwt_secret, mine.0, mine.2);
        if socket.try_join(&channel, Some(&token), ack_config()).await?.is_ok() {
            for event in ["message:created", "Message:created", "conversation:deleted", "read:receipt"] {
                let reference = socket
                    .broadcast(&channel, event, json!({"id": Uuid::new_v4(), "content": "made up"}))
                    .await?;
                if socket.reply(&reference).await?.is_ok() {
                    self.loot.push(format!("a broadcast of {event} was accepted"));
                }
            }
        }
        Ok(())
    }

    async fn odd_topics(&mut self, socket: &mut Socket) -> Result<()> {
        let (mine, _) = self.two_organizations();
        let token = token::agent(&self.shared.jwt_secret, mine.0, mine.2);
        for channel in [
            "org:".to_owned(),
            format!("ORG:{}", mine.0),
            format!("org:{}:messages", mine.0),
            format!("org:{}", mine.0.to_string().to_uppercase()),
            "room:1".to_owned(),
            "x".repeat(2_000),
        ] {
            self.expect_refusal(socket, &channel, &token).await?;
        }
        Ok(())
    }

    async fn expect_refusal(&mut self, socket: &mut Socket, channel: &str, token: &str) -> Result<()> {
        if socket.try_join(channel, Some(token), default_config()).await?.is_ok() {
            self.loot.push(format!("a join of {channel}"));
        }
        Ok(())
    }

    /// Id, conversations and a steady agent of one organization and of another.
    fn two_organizations(&mut self) -> (Parts, Parts) {
        let chosen: Vec<_> = self.world.organizations.choose_multiple(&mut self.rng, 2).collect();
        let parts = |index: usize| {
            let organization = chosen[index];
            (organization.id, organization.conversations.clone(), organization.agents[0], organization.desk())
        };
        (parts(0), parts(1))
    }
}

/// With its private channel.
type Parts = (Uuid, Vec<Uuid>, Uuid, String);

fn private_config() -> Value {
    let mut config = default_config();
    config["private"] = true.into();
    config
}
