//! What a run showed, for people and as JSON.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value, json};

use crate::attack::Figures;
use crate::checker::{Verdict, count};

/// Violations printed in full; of more, the number is enough.
const PRINTED: usize = 25;

#[derive(Clone, Debug, Default)]
pub struct Report {
    pub seed: u64,
    pub seconds: f64,
    pub clients: usize,
    pub hostile: usize,
    /// By kind.
    pub faults: BTreeMap<&'static str, u32>,
    pub transactions: u64,
    pub rolled_back: u64,
    pub failed: u64,
    /// Events that some channel must carry.
    pub events: u64,
    /// Bytes of the relay's resident memory, one reading a second.
    pub resident: Vec<u64>,
    /// How often a saboteur struck.
    pub struck: u64,
    /// What an attack cost others.
    pub assault: Option<Figures>,
    /// The transaction id that was crossed, and the one that was come to.
    pub xids: Option<(u64, u64)>,
    pub verdict: Verdict,
}

impl Report {
    pub fn is_clean(&self) -> bool {
        self.verdict.violations.is_empty()
    }

    fn mebibytes(&self) -> (u64, u64, u64) {
        let mebi = |bytes: Option<&u64>| bytes.copied().unwrap_or_default() >> 20;
        (mebi(self.resident.first()), mebi(self.resident.iter().max()), mebi(self.resident.last()))
    }

    pub fn to_json(&self) -> Value {
        let Verdict {
            delivered,
            again,
            stays,
            sockets,
            replays,
            snapshots,
            cuts,
            announced,
            lost,
            violations,
        } = &self.verdict;
        let counts: BTreeMap<_, _> =
            count(violations).into_iter().map(|(kind, n)| (kind.name(), n)).collect();
        let (first, most, last) = self.mebibytes();
        json!({
            "seed": self.seed, "seconds": self.seconds, "clients": self.clients, "hostile": self.hostile,
            "faults": self.faults, "transactions": self.transactions, "rolled_back": self.rolled_back,
            "failed": self.failed, "events": self.events, "delivered": delivered, "again": again,
            "sockets": sockets, "stays": stays, "replays": replays, "snapshots": snapshots, "cuts": cuts,
            "announced_losses": announced, "events_lost": lost,
            "relay_rss_mib": {"first": first, "most": most, "last": last, "each_second": self.resident.iter().map(|bytes| bytes >> 20).collect::<Vec<_>>()},
            "attack": self.assault.as_ref().map(Figures::to_json),
            "transaction_ids": self.xids.map(|(crossed, came_to)| json!({"crossed": crossed, "came_to": came_to})),
            "violations": counts,
            "first_violations": violations.iter().take(PRINTED).map(ToString::to_string).collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = &self.verdict;
        let (first, most, last) = self.mebibytes();
        let faults: Vec<String> = self.faults.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        let rows = [
            ("seed", self.seed.to_string()),
            ("seconds", format!("{:.0}", self.seconds)),
            ("clients", format!("{} and {} hostile", self.clients, self.hostile)),
            ("faults", faults.join(", ")),
            (
                "transactions",
                format!(
                    "{} committed, {} rolled back, {} failed",
                    self.transactions, self.rolled_back, self.failed
                ),
            ),
            ("events committed", self.events.to_string()),
            ("events delivered", format!("{}, {} of them again", verdict.delivered, verdict.again)),
            (
                "sockets, stays, replays, snapshots",
                format!("{}, {}, {}, {}", verdict.sockets, verdict.stays, verdict.replays, verdict.snapshots),
            ),
            ("channels closed by the relay", verdict.cuts.to_string()),
            ("announced losses", format!("{}, for {} events", verdict.announced, verdict.lost)),
            ("relay RSS, MiB", format!("{first} at first, {most} at most, {last} at last")),
            ("violations", verdict.violations.len().to_string()),
        ];
        for (name, value) in rows {
            writeln!(f, "{name:>28}  {value}")?;
        }
        if let Some((crossed, came_to)) = self.xids {
            writeln!(f, "{:>28}  crossed {crossed}, came to {came_to}", "transaction ids")?;
        }
        if let Some(figures) = &self.assault {
            write!(f, "{}", table([figures]))?;
        }
        for (kind, count) in count(&verdict.violations) {
            writeln!(f, "{:>28}  {count}", kind.name())?;
        }
        for violation in verdict.violations.iter().take(PRINTED) {
            writeln!(f, "  seed {}: {violation}", self.seed)?;
        }
        if verdict.violations.len() > PRINTED {
            writeln!(f, "  … and {} more", verdict.violations.len() - PRINTED)?;
        }
        Ok(())
    }
}

/// What attacks cost others, a row each.
pub fn table<'a>(attacks: impl IntoIterator<Item = &'a Figures>) -> String {
    let mut text = String::from(
        "| attack | connections | event, p50 / p99 ms: before | during | join, p50 / p99 ms: before | during | relay RSS, MiB: before | at most | after |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    for figures in attacks {
        let Figures { attack, delivery, joining, rss_before, rss_most, rss_after, connections, .. } = figures;
        let [before, most, after] = [rss_before, rss_most, rss_after].map(|bytes| bytes >> 20);
        text += &format!(
            "| {} | {connections} | {} | {} | {} | {} | {before} | {most} | {after} |\n",
            attack.name(),
            delivery[0],
            delivery[1],
            joining[0],
            joining[1]
        );
    }
    text
}
