//! Ports of one's own. A port that only was free a moment ago can be anybody's by the time a server binds it: the
//! kernel gives it to the next outgoing connection, or another test finds it free as well.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::net::TcpListener;
use std::ops::Range;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::{Mutex, PoisonError};

/// Below those that the kernel gives to outgoing connections (`net.ipv4.ip_local_port_range`).
const RANGE: Range<u16> = 10_000..32_000;

/// A port of 127.0.0.1 that no other test gets for as long as this process lives, so that what listens there may be
/// stopped and started again.
///
/// The claim is an abstract unix socket named after the port: whatever ends the process also ends the claim.
pub fn reserve() -> io::Result<u16> {
    static CLAIMS: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());
    let count = u64::from(RANGE.end - RANGE.start);
    let start = RandomState::new().build_hasher().finish() % count;
    for offset in 0..count {
        let port = RANGE.start + u16::try_from((start + offset) % count).expect("within the range");
        let name = SocketAddr::from_abstract_name(format!("campfire-port-{port}"))?;
        let Ok(claim) = UnixListener::bind_addr(&name) else { continue };
        if is_free(port) {
            CLAIMS.lock().unwrap_or_else(PoisonError::into_inner).push(claim);
            return Ok(port);
        }
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, "every port from 10000 to 31999 is taken"))
}

/// Whether `port` could be listened on now. Port 0 is never one.
pub fn is_free(port: u16) -> bool {
    port != 0 && TcpListener::bind(("127.0.0.1", port)).is_ok()
}
