//! A cluster whose next transaction ids lie just below a boundary: 2^31 and 2^32, where 32-bit ids turn round.
//!
//! Years of transactions are taken in steps by pg_resetwal. A step may not be wider than what Postgres lets an unfrozen
//! row lie behind (2^31, less some millions), so that every row is frozen after each.

use anyhow::{Context, Result, ensure};
use campfire_tests::{Cluster, server};
use tokio_postgres::Client;

use campfire_tests::seed::DATABASE;

/// Every database: one that is left out holds the others back.
const DATABASES: [&str; 4] = ["template0", "template1", "postgres", DATABASE];

/// Ids of one step.
const STEP: u64 = 1_500_000_000;

/// Ids that freezing after the last step may use up.
const ROOM: u64 = 8_000;

/// How far below the boundary a run begins.
const AHEAD: u64 = 400;

/// Ids in a file of `pg_xact`: four to a byte, 32 pages of 8 KiB.
const IDS_PER_SEGMENT: u32 = 1 << 20;
const SEGMENT_BYTES: usize = 32 * 8192;

/// Which boundary the run of a seed crosses, as a 64-bit id; None: it begins where initdb does.
pub fn of_seed(seed: u64) -> Option<u64> {
    match seed % 8 {
        1 => Some(1 << 31),
        3 => Some(1 << 32),
        // In the second epoch both are other ids than in the first.
        5 => Some(3 << 31),
        7 => Some(2 << 32),
        _ => None,
    }
}

/// Moves a running cluster that nobody uses yet, so that its next ids lie just below `boundary`.
pub fn move_below(cluster: &mut Cluster, boundary: u64) -> Result<()> {
    let name = format!("cannot move the transaction ids of a fresh cluster to just below {boundary}");
    let moving = |cluster: &mut Cluster| -> Result<()> {
        cluster.psql("postgres", "update pg_database set datallowconn = true where datname = 'template0'")?;
        for next in steps(boundary - ROOM) {
            jump(cluster, next)?;
            for database in DATABASES {
                cluster.psql(database, "vacuum (freeze)")?;
            }
        }
        cluster.psql(DATABASE, &use_up(boundary - AHEAD)).map(drop)
    };
    moving(cluster).context(name)
}

/// Uses ids up to just before the boundary, if there are still any: the rest of a run crosses it.
pub async fn come_near(database: &Client, boundary: u64) -> Result<()> {
    database.batch_execute(&use_up(boundary - AHEAD / 8)).await.context("cannot use up transaction ids")
}

/// The next id that the cluster will give.
pub async fn next(database: &Client) -> Result<u64> {
    let next = "select pg_snapshot_xmax(pg_current_snapshot())::text";
    let text: String = database.query_one(next, &[]).await?.get(0);
    text.parse().with_context(|| format!("{text} is no transaction id"))
}

fn use_up(to: u64) -> String {
    format!("do $$ begin while pg_current_xact_id() < '{to}'::xid8 loop commit; end loop; end $$")
}

/// Where to stop on the way to a 64-bit id. The epoch is just a number of the control file.
fn steps(target: u64) -> Vec<u64> {
    let (epoch, id) = (target >> 32 << 32, target & 0xffff_ffff);
    let mut steps: Vec<u64> = (1..=id / STEP).map(|step| epoch + step * STEP).collect();
    steps.push(target);
    steps
}

fn jump(cluster: &mut Cluster, next: u64) -> Result<()> {
    let (epoch, id) = (next >> 32, next as u32);
    cluster.stop("fast")?;
    // Postgres looks at the state of the id before, in a file that it would have made on the way.
    let segment = cluster.data().join("pg_xact").join(format!("{:04X}", id / IDS_PER_SEGMENT));
    if !segment.exists() {
        std::fs::write(&segment, vec![0; SEGMENT_BYTES]).with_context(|| segment.display().to_string())?;
        server::give_to_server_user(&segment)?;
    }
    let (id, epoch) = (id.to_string(), epoch.to_string());
    server::run(cluster.server.command("pg_resetwal").arg("-D").arg(cluster.data()).args([
        "--next-transaction-id",
        &id,
        "--epoch",
        &epoch,
    ]))?;
    cluster.start().context("Postgres does not start after pg_resetwal")?;
    let told = cluster.psql("postgres", "select pg_snapshot_xmax(pg_current_snapshot())")?;
    let is_there = told.trim().parse().is_ok_and(|told: u64| (next..next + ROOM / 4).contains(&told));
    ensure!(is_there, "after pg_resetwal the next transaction id is {}, not {next}", told.trim());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_step_is_wider_than_postgres_lets_rows_lie_behind() {
        for boundary in (0..8).filter_map(of_seed) {
            let mut id = 700;
            for step in steps(boundary - ROOM) {
                let next = step & 0xffff_ffff;
                assert!(next > id && next - id < (1 << 31) - 50_000_000, "{boundary}: {id} to {next}");
                id = next;
            }
            assert_eq!(id, (boundary - ROOM) & 0xffff_ffff);
        }
    }
}
