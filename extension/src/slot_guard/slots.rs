//! The slots as they are in shared memory: all that a process without a database can see of them.

use std::ffi::CStr;

use pgrx::pg_sys::{self, Oid, XLogRecPtr};

/// A slot of campfire's that nobody reads. Two are equal if nobody has read it in between, as far as its state tells.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) name: String,
    pub(super) database: Oid,
    restart_lsn: XLogRecPtr,
    confirmed_flush: XLogRecPtr,
    /// Postgres 17 notes when a slot was left; before, 0.
    inactive_since: i64,
}

impl Slot {
    /// WAL that the server keeps for it.
    pub(super) fn retained_bytes(&self) -> u64 {
        // SAFETY: reads shared memory; the timeline is not asked for.
        let flushed = unsafe { pg_sys::GetFlushRecPtr(std::ptr::null_mut()) };
        flushed.saturating_sub(self.restart_lsn)
    }
}

/// ReplicationSlotControlLock, of which the headers have only a macro: its place in storage/lwlocknames.h, the same in
/// Postgres 15 to 18.
const CONTROL_LOCK: usize = 37;

/// Every slot that the guard may drop if it holds back too much. What it says is a hint, as every look at another
/// process is: the dropper looks again.
pub(super) fn inactive() -> Vec<Slot> {
    // SAFETY: without slots (`max_replication_slots = 0`) there is no array. The lock keeps slots from being made and dropped, so what `is_ours` looks at does not change. There is no
    // call that could raise an error before it is released.
    unsafe {
        if pg_sys::ReplicationSlotCtl.is_null() {
            return Vec::new();
        }
        let lock = &raw mut (*pg_sys::MainLWLockArray.add(CONTROL_LOCK)).lock;
        pg_sys::LWLockAcquire(lock, pg_sys::LWLockMode::LW_SHARED);
        let first =
            (&raw const (*pg_sys::ReplicationSlotCtl).replication_slots).cast::<pg_sys::ReplicationSlot>();
        let count = usize::try_from(pg_sys::max_replication_slots).unwrap_or_default();
        let found = (0..count).filter_map(|place| read(first.add(place))).collect();
        pg_sys::LWLockRelease(lock);
        found
    }
}

/// # Safety
/// `slot` points into the server's array, and the lock is held.
unsafe fn read(slot: *const pg_sys::ReplicationSlot) -> Option<Slot> {
    // SAFETY: in the array. Others may write these under a spinlock of the slot that bindings do not have; each is read
    // at once, by volatile access of aligned numbers.
    unsafe {
        let data = &raw const (*slot).data;
        let restart_lsn = (&raw const (*data).restart_lsn).read_volatile();
        let is_candidate = (&raw const (*slot).in_use).read_volatile()
            && (&raw const (*slot).active_pid).read_volatile() == 0
            && (*data).persistency == pg_sys::ReplicationSlotPersistency::RS_PERSISTENT
            // An invalidated one holds back nothing.
            && restart_lsn != 0
            && !is_invalidated(data);
        let name = text(&raw const (*data).name);
        let is_ours = (*data).database != Oid::INVALID
            && text(&raw const (*data).plugin) == "pgoutput"
            && (name == "campfire" || name.starts_with("campfire_"));
        (is_candidate && is_ours).then(|| Slot {
            name,
            database: (*data).database,
            restart_lsn,
            confirmed_flush: (&raw const (*data).confirmed_flush).read_volatile(),
            inactive_since: inactive_since(slot),
        })
    }
}

/// # Safety
/// `name` points to a name that does not change.
unsafe fn text(name: *const pg_sys::NameData) -> String {
    // SAFETY: a name ends with NUL.
    unsafe { CStr::from_ptr((&raw const (*name).data).cast()) }.to_string_lossy().into_owned()
}

/// # Safety
/// `data` points into the server's array.
#[cfg(feature = "pg15")]
unsafe fn is_invalidated(data: *const pg_sys::ReplicationSlotPersistentData) -> bool {
    // SAFETY: the caller's.
    unsafe { (&raw const (*data).invalidated_at).read_volatile() != 0 }
}

/// # Safety
/// `data` points into the server's array.
#[cfg(not(feature = "pg15"))]
unsafe fn is_invalidated(data: *const pg_sys::ReplicationSlotPersistentData) -> bool {
    // SAFETY: the caller's.
    unsafe {
        (&raw const (*data).invalidated).read_volatile()
            != pg_sys::ReplicationSlotInvalidationCause::RS_INVAL_NONE
    }
}

/// # Safety
/// `slot` points into the server's array.
#[cfg(any(feature = "pg15", feature = "pg16"))]
unsafe fn inactive_since(_slot: *const pg_sys::ReplicationSlot) -> i64 {
    0
}

/// # Safety
/// `slot` points into the server's array.
#[cfg(not(any(feature = "pg15", feature = "pg16")))]
unsafe fn inactive_since(slot: *const pg_sys::ReplicationSlot) -> i64 {
    // SAFETY: the caller's.
    unsafe { (&raw const (*slot).inactive_since).read_volatile() }
}
