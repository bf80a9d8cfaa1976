//! After a fail-over: on which timeline the server is, and where it left the earlier ones.

use crate::postgres::{Connection, Lsn, PostgresError};

/// Earlier timelines, oldest first, and the LSN at which each was left. The first timeline has none.
pub(super) async fn history(
    connection: &mut Connection,
    timeline: u32,
) -> Result<Vec<(u32, Lsn)>, PostgresError> {
    if timeline == 1 {
        return Ok(Vec::new());
    }
    let rows = connection.query(&format!("TIMELINE_HISTORY {timeline}")).await?;
    match rows.into_iter().next().as_deref() {
        Some([_, Some(content)]) => parse(content).ok_or_else(|| {
            PostgresError::Protocol(format!("the history of timeline {timeline} cannot be read"))
        }),
        _ => Err(PostgresError::Protocol(format!("no history came for timeline {timeline}"))),
    }
}

/// Lines of timeline, LSN and reason; `#` begins a comment.
fn parse(content: &str) -> Option<Vec<(u32, Lsn)>> {
    let lines = content.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    lines
        .filter(|line| !line.is_empty())
        .map(|line| {
            let mut fields = line.split_whitespace();
            Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_file_gives_the_switch_points() {
        let content = "1\t0/3000000\tno recovery target specified\n\n# comment\n2\t1/A0\tbefore 2000-01-01\n";
        assert_eq!(parse(content), Some(vec![(1, Lsn(0x300_0000)), (2, Lsn(0x1_0000_00A0))]));
        assert_eq!(parse("1\n"), None);
        assert_eq!(parse("one 0/1\n"), None);
    }
}
