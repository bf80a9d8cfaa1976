//! How many sockets use a token: one that leaked shall not open thousands.

use std::collections::HashMap;

use super::socket_id::SocketId;
use crate::auth::Fingerprint;

/// Sockets with channels joined by each token, and how many channels. API keys are not counted: everybody has them.
#[derive(Debug, Default)]
pub(super) struct TokenUse {
    sockets: HashMap<Fingerprint, HashMap<SocketId, usize>>,
}

impl TokenUse {
    /// Whether a socket may join one more channel by a token. 0: no limit.
    pub(super) fn admits(&self, token: Fingerprint, socket: SocketId, sockets_max: usize) -> bool {
        let Some(sockets) = self.sockets.get(&token) else { return true };
        sockets_max == 0 || sockets.len() < sockets_max || sockets.contains_key(&socket)
    }

    pub(super) fn join(&mut self, token: Option<Fingerprint>, socket: SocketId) {
        if let Some(token) = token {
            *self.sockets.entry(token).or_default().entry(socket).or_default() += 1;
        }
    }

    pub(super) fn leave(&mut self, token: Option<Fingerprint>, socket: SocketId) {
        let Some(token) = token else { return };
        let Some(sockets) = self.sockets.get_mut(&token) else { return };
        if let Some(channels) = sockets.get_mut(&socket) {
            *channels -= 1;
            if *channels == 0 {
                sockets.remove(&socket);
            }
        }
        if sockets.is_empty() {
            self.sockets.remove(&token);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_counted_and_channels_of_one_socket_are_one() {
        let mut token_use = TokenUse::default();
        let token = Fingerprint::default();
        let [a, b] = [SocketId(1), SocketId(2)];
        for _ in 0..2 {
            assert!(token_use.admits(token, a, 1));
            token_use.join(Some(token), a);
        }
        assert!(
            !token_use.admits(token, b, 1) && token_use.admits(token, b, 2) && token_use.admits(token, b, 0)
        );
        token_use.leave(Some(token), a);
        assert!(!token_use.admits(token, b, 1));
        token_use.leave(Some(token), a);
        assert!(token_use.admits(token, b, 1));
        assert!(token_use.sockets.is_empty());
    }
}
