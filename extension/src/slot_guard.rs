//! The slot guard: with no relay alive, a slot holds back WAL until the disk is full. This drops it before that.
//!
//! Two kinds of background workers, which exist only where the server preloads the library. The *watcher* always runs.
//! It looks at the slots in shared memory and has no database, so it is never in the way of DROP DATABASE. For a slot
//! that held back too much for too long it starts a *dropper* in the slot's database, which looks again, drops the
//! slot, and writes down that it did. On a standby neither runs: Postgres starts the watcher when recovery has ended.
//!
//! Hazard: what the watcher knows of the past is gone when it ends; grace periods then begin anew.

mod dropper;
mod slots;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use pgrx::bgworkers::{BackgroundWorker, BackgroundWorkerBuilder, SignalWakeFlags};
use pgrx::pg_sys::{self, Datum};
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, debug1, pg_guard};

use slots::Slot;

const MEGABYTE: u64 = 1 << 20;

/// Soon enough not to be missed, late enough for a watcher that fails at once not to fill the log.
const RESTART: Duration = Duration::from_secs(5);

/// Megabytes, as of `max_slot_wal_keep_size`.
static SLOT_MAX_RETAINED: GucSetting<i32> = GucSetting::<i32>::new(16 * 1024);
/// Seconds.
static SLOT_GUARD_GRACE: GucSetting<i32> = GucSetting::<i32>::new(600);
/// Seconds.
static SLOT_GUARD_INTERVAL: GucSetting<i32> = GucSetting::<i32>::new(30);

/// Registers settings and watcher, if the server is preloading us. Elsewhere the settings do not exist: that is how the
/// relay knows whether there is a guard, and a newer library in a server that preloaded an older one defines nothing
/// twice.
pub(crate) fn register() {
    // SAFETY: a plain variable, written by the process we are in.
    if !unsafe { pg_sys::process_shared_preload_libraries_in_progress } {
        return;
    }
    GucRegistry::define_int_guc(
        c"campfire.slot_max_retained",
        c"Drops an inactive replication slot of campfire that holds back more WAL than this.",
        c"0 and -1 turn the slot guard off.",
        &SLOT_MAX_RETAINED,
        -1,
        i32::MAX,
        GucContext::Sighup,
        GucFlags::UNIT_MB,
    );
    GucRegistry::define_int_guc(
        c"campfire.slot_guard_grace",
        c"How long a slot of campfire must have been inactive before the slot guard drops it.",
        c"Counted anew from each start of the server.",
        &SLOT_GUARD_GRACE,
        0,
        i32::MAX,
        GucContext::Sighup,
        GucFlags::UNIT_S,
    );
    GucRegistry::define_int_guc(
        c"campfire.slot_guard_interval",
        c"How often the slot guard looks at the slots.",
        c"",
        &SLOT_GUARD_INTERVAL,
        1,
        86_400,
        GucContext::Sighup,
        GucFlags::UNIT_S,
    );
    // A misspelt setting in postgresql.conf gets a warning instead of silence.
    // SAFETY: the name ends with NUL, and is copied.
    unsafe { pg_sys::MarkGUCPrefixReserved(c"campfire".as_ptr()) };

    BackgroundWorkerBuilder::new("campfire slot guard")
        .set_library("campfire")
        .set_function("campfire_slot_guard")
        .enable_spi_access()
        .set_restart_time(Some(RESTART))
        .load();
}

/// More than this, in bytes, is too much; `None` if the guard is off.
fn retained_max() -> Option<u64> {
    u64::try_from(SLOT_MAX_RETAINED.get()).ok().filter(|megabytes| *megabytes > 0).map(|max| max * MEGABYTE)
}

fn seconds(setting: &GucSetting<i32>) -> Duration {
    Duration::from_secs(setting.get().unsigned_abs().into())
}

/// The watcher.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn campfire_slot_guard(_argument: Datum) {
    // SIGINT is what pg_cancel_backend() sends: there is no statement to be cancelled, and it would end us.
    BackgroundWorker::attach_signal_handlers(
        SignalWakeFlags::SIGHUP | SignalWakeFlags::SIGINT | SignalWakeFlags::SIGTERM,
    );
    // No database; but from here on pg_stat_activity shows us.
    BackgroundWorker::connect_worker_to_spi_by_oid(None, None);

    let mut watcher = Watcher::default();
    // The latch also wakes for what Postgres asks of every process, such as to close files of a dropped database, and
    // wait_latch() answers that. Without it DROP DATABASE would wait for us.
    while BackgroundWorker::wait_latch(Some(seconds(&SLOT_GUARD_INTERVAL))) {
        if BackgroundWorker::sighup_received() {
            // SAFETY: between two looks nothing holds on to a setting.
            unsafe { pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP) };
        }
        match retained_max() {
            Some(max) => watcher.look(max, Instant::now()),
            None => {
                debug1!("the slot guard of campfire is off");
                watcher.idle.clear();
            }
        }
    }
    // A status other than 0 has us started again, if it was pg_terminate_backend() and not the end of the server.
    // SAFETY: nothing of ours needs to be put away.
    unsafe { pg_sys::proc_exit(1) };
}

/// What is known of the slots that nobody reads, by name.
#[derive(Default)]
struct Watcher {
    idle: HashMap<String, Idle>,
}

struct Idle {
    slot: Slot,
    since: Instant,
    attempted: Option<Instant>,
}

impl Watcher {
    fn look(&mut self, retained_max: u64, now: Instant) {
        let slots = slots::inactive();
        // Gone, read, or read and left again since the last look: then its state moved.
        self.idle.retain(|_, idle| slots.contains(&idle.slot));
        for slot in slots {
            let idle =
                self.idle.entry(slot.name.clone()).or_insert(Idle { slot, since: now, attempted: None });
            idle.look(retained_max, now);
        }
    }
}

impl Idle {
    fn look(&mut self, retained_max: u64, now: Instant) {
        let slot = &self.slot;
        let retained = slot.retained_bytes();
        let inactive = now - self.since;
        debug1!("slot \"{}\" holds back {retained} bytes, inactive for {} s", slot.name, inactive.as_secs());
        // The dropper of the look before may still be at it.
        let is_due = self.attempted.is_none_or(|before| now - before >= seconds(&SLOT_GUARD_INTERVAL));
        if retained > retained_max && inactive >= seconds(&SLOT_GUARD_GRACE) && is_due {
            self.attempted = Some(now);
            dropper::start(slot);
        }
    }
}
