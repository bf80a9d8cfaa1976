//! What a column's value is in JSON: as the table in docs/extension.md says.

use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};
use campfire_tests::socket::{Vsn, default_config};
use campfire_tests::{ORGANIZATION, chat, layout};
use serde_json::Value;

use crate::scene::{Scene, scene_test};

/// A row of the table, without the marks of code around its cells.
struct Row {
    type_name: String,
    literal: String,
    event: Value,
    changes: Value,
}

/// The rows of "Values in JSON".
fn documented() -> Result<Vec<Row>> {
    let page = std::fs::read_to_string(layout::repository().join("docs/extension.md"))?;
    let (_, rest) = page.split_once("### Values in JSON\n").context("the section is missing")?;
    let table =
        rest.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    table.skip(2).map(row).collect()
}

fn row(line: &str) -> Result<Row> {
    let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
    let code = |at: usize| {
        let cell = cells.get(at).and_then(|cell| cell.strip_prefix('`'));
        // What follows the code is a remark.
        cell.and_then(|cell| cell.split_once('`')).map(|(code, _)| code).context(format!("{line}: cell {at}"))
    };
    let json = |at: usize| Ok::<_, anyhow::Error>(serde_json::from_str(code(at)?)?);
    Ok(Row {
        type_name: code(0)?.to_owned(),
        literal: code(1)?.to_owned(),
        event: json(2)?,
        changes: json(3)?,
    })
}

#[scene_test]
async fn columns_become_json_as_the_documentation_says(scene: &mut Scene) -> Result<()> {
    let rows = documented()?;
    ensure!(rows.len() > 20, "{} rows", rows.len());
    // A type that may be published and is not in the table has been forgotten there. Types of extensions are not.
    let missing = "select string_agg(t.oid::regtype::text, ', ') from pg_type as t
        where t.typtype = 'b' and t.oid < 16384 and campfire.is_scalar(t.oid::regtype) and t.oid <> all ($1::text[]::regtype[])";
    let types: Vec<&str> = rows.iter().map(|row| row.type_name.as_str()).collect();
    let missing: Option<String> = scene.database.query_one(missing, &[&types]).await?.get(0);
    ensure!(missing.is_none(), "not documented: {missing:?}");

    let (mut columns, mut values) = (String::new(), String::new());
    for (at, Row { type_name, literal, .. }) in rows.iter().enumerate() {
        // Both as a column of the type and of a domain over it.
        write!(columns, ", plain_{at} {type_name}, domain_{at} d_{at}")?;
        write!(values, ", {literal}, {literal}")?;
        scene.database.batch_execute(&format!("create domain d_{at} as {type_name}")).await?;
    }
    let made = format!(
        "select campfire.install_supabase_api();
         create policy readers on realtime.messages for select to authenticated using (true);
         create table samples (organization_id uuid primary key{columns});
         create function tell() returns trigger language plpgsql as $$
         begin
           perform realtime.broadcast_changes('room:types', tg_op, tg_op, tg_table_name, tg_table_schema, new, old);
           return null;
         end $$;
         create trigger tell after insert on samples for each row execute function tell();
         select campfire.publish('campfire', 'samples');
         select campfire.add_route('samples', 'INSERT', 'org:{{organization_id}}', 'sample')"
    );
    scene.database.batch_execute(&made).await?;
    let mut socket = scene.dashboard(Vsn::V2, &[&chat::organization_channel(ORGANIZATION)]).await?;
    let mut config = default_config();
    config["private"] = true.into();
    let reply = socket.try_join("room:types", Some(&scene.agent()), config).await?;
    ensure!(reply.is_ok(), "{reply:?}");
    scene.database.batch_execute("set timezone = 'Europe/Berlin'").await?;
    let insert = format!("insert into samples values ('{ORGANIZATION}'{values})");
    scene.database.batch_execute(&insert).await?;
    let (mut event, mut changes) = (None, None);
    while event.is_none() || changes.is_none() {
        let next = socket.next_event().await?;
        match next.name.as_str() {
            "sample" => event = Some(next.payload),
            "INSERT" => changes = Some(next.payload["record"].clone()),
            _ => {}
        }
    }
    let (event, changes) = (event.context("an event")?, changes.context("changes")?);
    for (at, row) in rows.iter().enumerate() {
        for column in [format!("plain_{at}"), format!("domain_{at}")] {
            let Row { type_name, literal, .. } = row;
            ensure!(event[&column] == row.event, "event: {type_name} {literal} is {}", event[&column]);
            ensure!(
                changes[&column] == row.changes,
                "changes: {type_name} {literal} is {}",
                changes[&column]
            );
        }
    }
    Ok(())
}
