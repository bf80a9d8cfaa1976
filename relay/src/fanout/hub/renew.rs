//! Tokens that are renewed, decided like joins.

use std::sync::Arc;
use std::time::Instant;

use super::Hub;
use super::admit::fingerprint;
use crate::auth::{Credential, Grants, TokenError};
use crate::fanout::room::{Hears, RoomKey};
use crate::fanout::socket_id::SocketId;
use crate::protocol::{Reason, Ref};

impl Hub {
    /// Takes a new token for a channel. Success is silent.
    pub(super) fn renew(
        &mut self,
        id: SocketId,
        wire_topic: &str,
        reference: &Ref,
        credential: Result<Credential, TokenError>,
        grants: Option<Result<Grants, Reason>>,
    ) {
        let Some(channel) = self.channel_or_reply(id, wire_topic, reference) else { return };
        let RoomKey { topic, private } = channel.room.clone();
        let (before, enabled) = (channel.grants.unwrap_or_default(), channel.attendance.enabled);
        let renewed = credential.map_err(Reason::from).and_then(|credential| {
            self.admit_token(fingerprint(&credential), id)?;
            let (identity, grants) = self.authorize(&topic, &credential, private, grants, enabled)?;
            let after = grants.unwrap_or_default();
            let lost = (before.read_broadcast && !after.read_broadcast)
                || (enabled && before.read_presence && !after.read_presence);
            if lost {
                return Err(Reason::NoLongerAuthorized { topic: topic.to_string() });
            }
            Ok((identity, grants, credential))
        });
        match renewed {
            Ok((identity, grants, credential)) => {
                let Some(socket) = self.sockets.get_mut(&id) else { return };
                let vsn = socket.vsn;
                let Some(channel) =
                    socket.channels.iter_mut().find(|channel| *channel.wire_topic == *wire_topic)
                else {
                    return;
                };
                let before = channel.group(vsn);
                let was = std::mem::replace(&mut channel.identity, identity);
                let visit = if was == identity { None } else { channel.attendance.visit.take() };
                channel.grants = grants;
                channel.viewer = channel.viewer.take().map(|_| credential.clone());
                channel.attachment = self.attachment;
                let expires_at = credential.expires_at();
                let expired_at = std::mem::replace(&mut channel.expires_at, expires_at);
                self.expiries.remove(expired_at, id, &channel.wire_topic);
                self.expiries.insert(expires_at, id, &channel.wire_topic);
                let token = fingerprint(&credential);
                self.token_use.join(token, id);
                self.token_use.leave(std::mem::replace(&mut channel.token, token), id);
                let after = channel.group(vsn);
                if before != after {
                    self.rooms.leave(&channel.room, &before, id);
                    self.rooms.join(
                        channel.room.clone(),
                        after.clone(),
                        id,
                        Arc::clone(&socket.outbox),
                        channel.stage.valve(),
                        channel.viewer.clone(),
                    );
                }
                self.rooms.see_as(&channel.room, &after, id, channel.viewer.clone());
                self.rooms.hear_broadcasts(&channel.room, &after, id, channel.may_read_broadcasts());
                if !channel.may_read_presence() {
                    channel.attendance.hears = Hears::Nothing;
                }
                self.rooms.hear_presence(&channel.room, &after, id, channel.attendance.hears);
                let now = Instant::now();
                self.agent_opens(identity, id);
                self.agent_closes(was, id, now);
                self.visitor_goes(id, was, visit, now);
                self.visitor_comes(id, wire_topic, now);
            }
            Err(reason) => self.close_channel(id, wire_topic, &reason),
        }
    }
}
