//! The events that clients get: as docs/events.md lists them.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use campfire_tests::cluster::Options;
use campfire_tests::seed::Seed;
use campfire_tests::socket::{Event, Vsn};
use campfire_tests::{Cluster, ORGANIZATION, chat, layout, token};
use serde_json::{Value, json};

use crate::scene::with_settings;

pub(crate) fn page() -> Result<String> {
    Ok(std::fs::read_to_string(layout::repository().join("docs/events.md"))?)
}

/// What stands under a heading, up to the next one.
pub(crate) fn section<'a>(page: &'a str, heading: &str) -> Result<&'a str> {
    let (_, rest) = page.split_once(&format!("\n{heading}\n")).with_context(|| format!("no {heading}"))?;
    Ok(rest.split("\n#").next().unwrap_or_default())
}

/// The rows of a section's table, by cell.
pub(crate) fn table(section: &str) -> Vec<Vec<&str>> {
    let lines =
        section.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    lines.skip(2).map(|line| line.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

/// What stands between backticks.
pub(crate) fn words(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// A built-in route as the page has it, in a line that [`ROUTES`] makes of a real one.
fn route(channel: &str, cells: &[&str]) -> Result<String> {
    let [id, event, table, fires_on, columns] = cells else { bail!("{cells:?}") };
    let (fires_on, is_on) = match fires_on.strip_suffix("; off") {
        Some(fires_on) => (fires_on, false),
        None => (*fires_on, true),
    };
    let (operation, when) = match fires_on.split_once(' ') {
        Some((operation, when)) => (operation.trim_end_matches(','), when),
        None => (fires_on, ""),
    };
    let changed = match when {
        "" | "move" => "any".to_owned(),
        _ if when.starts_with("of ") => words(when).join(","),
        _ if when.starts_with("unless only ") => format!("not {}", words(when).join(",")),
        _ => bail!("{when}"),
    };
    let (event, table, columns) = (words(event).join(""), words(table).join(""), words(columns).join(","));
    Ok(format!("{id} {channel} {event} {table} {operation} {} {changed} {columns} {is_on}", when == "move"))
}

/// Every route in a line. A route that fires on any change but some columns' has those columns.
const ROUTES: &str = "
    select concat_ws(' ', r.id, replace(r.channel, ':{id}', ':{conversation_id}'), r.event, r.table_name, r.operation,
      case when r.on_move then 'true' else 'false' end,
      case
        when r.when_changed is null then 'any'
        when cardinality(r.when_changed) > 4 then 'not ' || (
          select string_agg(published, ',') from pg_publication_tables as p cross join unnest(p.attnames) as published
          where p.pubname = 'campfire' and p.schemaname = r.schema_name and p.tablename = r.table_name
            and published <> all (r.when_changed))
        else array_to_string(r.when_changed, ',')
      end,
      array_to_string(r.columns, ','), case when r.enabled then 'true' else 'false' end)
    from campfire.routes as r";

#[test]
fn the_built_in_routes_are_those_of_the_documentation() -> Result<()> {
    let page = page()?;
    let mut documented = BTreeSet::new();
    for channel in ["", ":conversations", ":conv:{conversation_id}", ":widget:{conversation_id}"] {
        let channel = format!("org:{{organization_id}}{channel}");
        for cells in table(section(&page, &format!("### `{channel}`"))?) {
            documented.insert(route(&channel, &cells)?);
        }
    }
    let cluster = Cluster::boot_with(Options { seed: Seed::Bare, ..Options::default() })?;
    cluster.psql("postgres", "create extension campfire; select campfire.install()")?;
    let routes: BTreeSet<_> = cluster.psql("postgres", ROUTES)?.lines().map(str::to_owned).collect();
    ensure!(routes.len() > 20, "{routes:?}");
    let missing: Vec<_> = routes.difference(&documented).collect();
    let wrong: Vec<_> = documented.difference(&routes).collect();
    ensure!(missing.is_empty() && wrong.is_empty(), "missing: {missing:#?}\nwrong: {wrong:#?}");
    Ok(())
}

/// The members of an event's payload that a row of "Events of the relay" names.
pub(crate) fn members_told(page: &str, channel: &str, event: &str) -> Result<BTreeSet<String>> {
    let rows = table(section(page, "## Events of the relay")?);
    let row = rows.into_iter().find(|row| row[0] == format!("`{channel}`") && row[1] == format!("`{event}`"));
    let row = row.with_context(|| format!("{event} on {channel} is not documented"))?;
    Ok(words(row[2]).into_iter().map(str::to_owned).collect())
}

fn check(page: &str, channel: &str, event: &Event) -> Result<()> {
    let Value::Object(payload) = &event.payload else { bail!("{event:?}") };
    let told: BTreeSet<String> = payload.keys().cloned().collect();
    ensure!(told == members_told(page, channel, &event.name)?, "{channel}: {event:?}");
    ensure!(event.meta.is_null(), "{event:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_the_relay_are_those_of_the_documentation() {
    let settings = |settings: campfire_tests::relay::Settings| {
        settings.env("CAMPFIRE_PRESENCE_GRACE_SECONDS", "1").env("CAMPFIRE_TYPING_SECONDS", "1")
    };
    with_settings(settings, async |scene| {
        let page = page()?;
        let conversation = scene.conversation().await?;
        let org = chat::organization_channel(ORGANIZATION);
        let mut service = scene.socket(Vsn::V2).await?;
        service.join(&org, &token::service(scene.secret())).await?;
        let mut widget = scene.widget(Vsn::V2, conversation).await?;
        // The agent who waited for the conversation goes first.
        let mut news = Vec::new();
        while news.last() != Some(&"agent:status:offline".to_owned()) {
            let status = widget.next_status().await?;
            check(&page, "org:ORG:widget:CONV", &status)?;
            news.push(status.name);
        }
        let conv = chat::conversation_channel(ORGANIZATION, conversation);
        let mut agent = scene.dashboard(Vsn::V2, &[&conv]).await?;
        agent.broadcast(&conv, "typing:start", json!({"in": "words"})).await?;
        let here = chat::widget_channel(ORGANIZATION, conversation);
        widget.expect(&here, "typing:start").await?;
        let stop = widget.expect(&here, "typing:stop").await?;
        ensure!(stop.payload == json!({"in": "words"}) && stop.meta["sender"]["type"] == "agent", "{stop:?}");
        drop(agent);
        let status = widget.next_status().await?;
        ensure!(status.name == "agent:status:online", "{status:?}");
        check(&page, "org:ORG:widget:CONV", &status)?;
        for event in ["agent:status:online", "agent:status:offline"] {
            loop {
                let status = service.next_status().await?;
                check(&page, "org:ORG", &status)?;
                if status.name == event {
                    break;
                }
            }
        }
        Ok(())
    })
    .await;
}
