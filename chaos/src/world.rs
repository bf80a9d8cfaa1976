//! The organizations, agents and conversations of a run.

use anyhow::{Context, Result};
use campfire_tests::chat;
use rand::Rng;
use rand::rngs::StdRng;
use tokio_postgres::Client;
use uuid::Uuid;

const ORGANIZATIONS: usize = 3;
const AGENTS: usize = 5;
const CONVERSATIONS: usize = 8;

/// Of each organization's conversations, how many stay where they are.
const SETTLED: usize = 5;

/// Of each organization's agents, how many are never switched off.
const STEADY: usize = 2;

#[derive(Clone, Debug)]
pub struct Organization {
    pub id: Uuid,
    pub agents: Vec<Uuid>,
    pub conversations: Vec<Uuid>,
}

impl Organization {
    /// A private channel outside `org:`, which policies on realtime.messages let its agents read.
    pub fn desk(&self) -> String {
        format!("desk:{}", self.id)
    }

    /// A private channel to which rows of a table of the application's own go.
    pub fn shop(&self) -> String {
        format!("shop:{}", self.id)
    }

    /// Another, on which everybody may send.
    pub fn den(&self) -> String {
        format!("den:{}", self.id)
    }

    /// Agents that are never switched off.
    pub fn steady(&self) -> &[Uuid] {
        &self.agents[..STEADY]
    }

    /// Conversations that writers move to other organizations, delete, and make anew.
    pub fn nomads(&self) -> &[Uuid] {
        &self.conversations[SETTLED..]
    }

    /// Agents that writers switch on and off.
    pub fn switched(&self) -> &[Uuid] {
        &self.agents[STEADY..]
    }
}

#[derive(Clone, Debug)]
pub struct World {
    pub organizations: Vec<Organization>,
    /// A customer who means harm. Nobody else listens to its channels.
    pub hostile: Organization,
}

/// How many orders there are at most, in all shops.
pub const ORDERS: i32 = 90;

/// A table of the application's own. Each write gives a row a version that none had before.
const ORDERS_TABLE: &str = "
    create sequence order_versions;
    create table orders (id int primary key, shop uuid not null, version bigint not null default nextval('order_versions'),
      note text, made_at timestamptz not null default clock_timestamp());
    alter table orders replica identity full;
    alter table orders enable row level security;
    grant select on orders to authenticated;
    create policy own on orders for select to authenticated using (
      shop::text = (current_setting('request.jwt.claims', true)::jsonb ->> 'org_id'));
    select campfire.publish('campfire', 'orders');
    select campfire.add_route('orders', 'INSERT', 'shop:{shop}', 'order:created', '{id,version,note}', on_move => true,
      snapshot_by => 'made_at');
    select campfire.add_route('orders', 'UPDATE', 'shop:{shop}', 'order:updated', '{id,version,note}');
    select campfire.add_route('orders', 'DELETE', 'shop:{shop}', 'order:deleted', '{id,version}', on_move => true);";

/// Who may do what on private channels: a desk and a shop are for their organization's agents, a den for everybody.
const POLICIES: &str = "
    select campfire.install_supabase_api();
    create policy desks on realtime.messages for select to authenticated using (
      realtime.topic() = 'desk:' || (current_setting('request.jwt.claims', true)::jsonb ->> 'org_id'));
    create policy shops on realtime.messages for select to authenticated using (
      realtime.topic() = 'shop:' || (current_setting('request.jwt.claims', true)::jsonb ->> 'org_id'));
    create policy dens_are_read on realtime.messages for select to anon, authenticated using (realtime.topic() like 'den:%');
    create policy dens_are_written on realtime.messages for insert to anon, authenticated
      with check (realtime.topic() like 'den:%');";

impl World {
    /// The same for the same seed.
    pub fn new(rng: &mut StdRng) -> Self {
        let mut uuids = |count| (0..count).map(|_| uuid(rng)).collect::<Vec<_>>();
        let mut organization =
            || Organization { id: uuids(1)[0], agents: uuids(AGENTS), conversations: uuids(CONVERSATIONS) };
        let organizations = (0..ORGANIZATIONS).map(|_| organization()).collect();
        Self { organizations, hostile: organization() }
    }

    pub fn conversations(&self) -> impl Iterator<Item = Uuid> {
        self.organizations.iter().flat_map(|organization| organization.conversations.iter().copied())
    }

    /// Every channel that somebody could listen to: a conversation's in every organization, since it may move.
    pub fn channels(&self) -> Vec<String> {
        let mut channels = Vec::new();
        for organization in &self.organizations {
            channels.push(chat::organization_channel(organization.id));
            channels.push(chat::conversations_channel(organization.id));
            for conversation in self.conversations() {
                channels.push(chat::conversation_channel(organization.id, conversation));
                channels.push(chat::widget_channel(organization.id, conversation));
            }
        }
        channels
    }

    /// Every private channel that somebody listens to.
    pub fn private_channels(&self) -> impl Iterator<Item = String> {
        self.organizations.iter().flat_map(|organization| [organization.desk(), organization.shop()])
    }

    /// Writes it all down.
    pub async fn settle(&self, database: &Client) -> Result<()> {
        database.batch_execute(POLICIES).await.context("private channels")?;
        database.batch_execute(ORDERS_TABLE).await.context("orders")?;
        let organizations = self.organizations.iter().chain([&self.hostile]);
        for (number, organization) in organizations.enumerate() {
            let name = format!("Organization {number}");
            database
                .execute("insert into organizations (id, name) values ($1, $2)", &[&organization.id, &name])
                .await?;
            for agent in &organization.agents {
                database
                    .execute(
                        "insert into agents (organization_id, user_id, display_name) values ($1, $2, 'Ada')",
                        &[&organization.id, agent],
                    )
                    .await?;
            }
            for conversation in &organization.conversations {
                database
                    .execute(
                        "insert into conversations (id, organization_id, customer_name) values ($1, $2, 'Vera')",
                        &[conversation, &organization.id],
                    )
                    .await?;
            }
        }
        Ok(())
    }

    /// Switches every agent on again.
    pub async fn wake_agents(&self, database: &Client) -> Result<()> {
        database.execute("update agents set active = true where not active", &[]).await.context("agents")?;
        Ok(())
    }
}

/// A uuid of version 4 that follows from the seed.
pub fn uuid(rng: &mut StdRng) -> Uuid {
    let random = u128::from(rng.random::<u64>()) << 64 | u128::from(rng.random::<u64>());
    let versioned = random & !(0xf << 76 | 0xc << 60) | (4 << 76 | 0x8 << 60);
    Uuid::from_u128(versioned)
}
