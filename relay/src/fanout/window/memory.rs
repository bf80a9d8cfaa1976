//! What things in the window take in memory.

use std::collections::HashMap;
use std::hash::Hash;

/// Entries from which on a map that is nearly empty is made smaller.
const SPARSE_MIN: usize = 1024;

/// Memory taken by an entry of a hash map, which may be less than half full.
pub(super) const fn entry_bytes<T>() -> usize {
    (size_of::<T>() + 1) * 2
}

/// Memory that the allocator takes for so many bytes.
pub(super) fn heap_bytes(bytes: usize) -> usize {
    (bytes + 8).next_multiple_of(16).max(32)
}

/// Of what is counted: an `Arc<str>` or `Arc<[u8]>`.
pub(super) fn shared_bytes(bytes: usize) -> usize {
    heap_bytes(bytes + 2 * size_of::<usize>())
}

/// Makes a map smaller that has become nearly empty.
pub(super) fn give_back<K: Eq + Hash, V>(map: &mut HashMap<K, V>) {
    if map.capacity() > SPARSE_MIN && map.len() < map.capacity() / 4 {
        map.shrink_to(2 * map.len());
    }
}
