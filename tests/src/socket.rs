//! A client that speaks the wire by hand, in both serializations, and shows every
//! frame it gets: the stock clients hide what a test wants to see.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderName;
use tokio_tungstenite::tungstenite::{self, Message};

use crate::frame::{self, Frame};
use crate::relay::Relay;
use crate::timestamp;
use crate::wait::{DEADLINE, eventually};

/// After so much silence it is time for a heartbeat.
const SILENCE: Duration = Duration::from_secs(20);

/// A serialization, as the client asks for it in the URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vsn {
    /// JSON objects, text only.
    V1,
    /// JSON arrays, and binary frames for broadcasts.
    V2,
}

impl Vsn {
    /// Both, for tests that hold for either.
    pub const BOTH: [Self; 2] = [Self::V1, Self::V2];

    fn parameter(self) -> &'static str {
        match self {
            Self::V1 => "1.0.0",
            Self::V2 => "2.0.0",
        }
    }
}

/// A broadcast as a subscriber's callback would get it.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The channel, as it was joined (without `realtime:`).
    pub channel: String,
    pub name: String,
    pub payload: Value,
    /// Null where the event has none.
    pub meta: Value,
    /// When its frame was read.
    pub received_at: SystemTime,
}

impl Event {
    /// The position in the WAL; only row events have one.
    pub fn id(&self) -> &str {
        self.meta["id"].as_str().unwrap_or_default()
    }

    /// From the commit, as Postgres noted it, to now. Both ends read the clock of
    /// the same machine. `None` for events that no commit made.
    pub fn age(&self) -> Option<Duration> {
        let committed = timestamp::micros(self.meta["committed_at"].as_str()?)?;
        let received = self.received_at.duration_since(UNIX_EPOCH).ok()?;
        let micros = i64::try_from(received.as_micros()).ok()?;
        // Two readings of one clock a moment apart may differ by a rounding.
        u64::try_from((micros - committed).max(0)).ok().map(Duration::from_micros)
    }
}

/// An answer to a push.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    pub status: String,
    pub response: Value,
}

impl Reply {
    pub fn is_ok(&self) -> bool {
        self.status == "ok"
    }

    /// Why a join was refused.
    pub fn reason(&self) -> &str {
        self.response["reason"].as_str().unwrap_or_default()
    }
}

/// The server closed the socket.
#[derive(Debug)]
pub struct Closed {
    /// None: without a close frame, or without a code in it.
    pub code: Option<u16>,
    pub reason: String,
}

impl std::fmt::Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the server closed the socket: {:?} {}", self.code, self.reason)
    }
}

impl std::error::Error for Closed {}

/// A handshake that was refused.
#[derive(Debug)]
pub struct Refused {
    pub status: u16,
    pub body: String,
}

/// One WebSocket and the channels joined on it.
pub struct Socket {
    stream: WebSocketStream<TcpStream>,
    vsn: Vsn,
    last_ref: u64,
    /// Frames that came while something else was awaited, oldest first.
    waiting: VecDeque<Frame>,
    join_refs: HashMap<String, String>,
}

impl Socket {
    /// Connects with the cluster's API key. A relay that is not caught up with Postgres is waited for: it may have sent
    /// rows before it lets anybody in.
    pub async fn connect(relay: &Relay, api_key: &str, vsn: Vsn) -> Result<Self> {
        let address = relay.address();
        let connect = async || match Self::try_connect(&address, api_key, vsn).await {
            Ok(Err(refused)) if refused.status == 503 => None,
            answer => Some(answer),
        };
        match eventually("the relay lets clients in", connect).await? {
            Ok(socket) => Ok(socket),
            Err(refused) => bail!("the handshake was refused: {refused:?}"),
        }
    }

    /// [`Socket::connect`] with a receive buffer so small that the server's writes stall soon if nobody reads.
    pub async fn connect_narrow(relay: &Relay, api_key: &str, vsn: Vsn) -> Result<Self> {
        let path = format!("/realtime/v1/websocket?apikey={api_key}&vsn={}", vsn.parameter());
        let request = format!("ws://{}{path}", relay.address()).into_client_request()?;
        let narrow = tokio::net::TcpSocket::new_v4()?;
        narrow.set_recv_buffer_size(4096)?;
        let tcp = narrow.connect(relay.address().parse()?).await.context("no relay there")?;
        let (stream, _) =
            tokio_tungstenite::client_async(request, tcp).await.context("the handshake failed")?;
        Ok(Self { stream, vsn, last_ref: 0, waiting: VecDeque::new(), join_refs: HashMap::new() })
    }

    /// Connects, or tells with which status that was refused.
    pub async fn try_connect(address: &str, api_key: &str, vsn: Vsn) -> Result<Result<Self, Refused>> {
        let path = format!("/realtime/v1/websocket?apikey={api_key}&vsn={}", vsn.parameter());
        Self::handshake(address, &path, &[], vsn).await
    }

    /// Connects with any path, query and headers; `vsn` is what the server then is expected to speak.
    pub async fn handshake(
        address: &str,
        path: &str,
        headers: &[(&str, &str)],
        vsn: Vsn,
    ) -> Result<Result<Self, Refused>> {
        let tcp = TcpStream::connect(address).await.context("no relay there")?;
        tcp.set_nodelay(true)?;
        Self::handshake_over(tcp, address, path, headers, vsn).await
    }

    /// [`Socket::handshake`] over a connection that was made with options of one's own.
    pub async fn handshake_over(
        tcp: TcpStream,
        address: &str,
        path: &str,
        headers: &[(&str, &str)],
        vsn: Vsn,
    ) -> Result<Result<Self, Refused>> {
        let mut request = format!("ws://{address}{path}").into_client_request()?;
        for (name, value) in headers {
            request.headers_mut().insert(HeaderName::try_from(*name)?, value.parse()?);
        }
        let shaking = tokio_tungstenite::client_async(request, tcp);
        match tokio::time::timeout(DEADLINE, shaking).await.context("the handshake is not answered")? {
            Ok((stream, _)) => {
                Ok(Ok(Self { stream, vsn, last_ref: 0, waiting: VecDeque::new(), join_refs: HashMap::new() }))
            }
            Err(tungstenite::Error::Http(response)) => Ok(Err(Refused {
                status: response.status().as_u16(),
                body: String::from_utf8_lossy(response.body().as_deref().unwrap_or_default()).into_owned(),
            })),
            Err(error) => Err(error).context("the handshake failed"),
        }
    }

    /// Joins as the stock client does by default; fails unless that is accepted.
    pub async fn join(&mut self, channel: &str, token: &str) -> Result<()> {
        let reply = self.try_join(channel, Some(token), default_config()).await?;
        ensure!(reply.is_ok(), "join of {channel} was refused: {reply:?}");
        Ok(())
    }

    /// Joins with any config and returns the answer.
    pub async fn try_join(&mut self, channel: &str, token: Option<&str>, config: Value) -> Result<Reply> {
        let reference = self.send_join(channel, token, config).await?;
        self.reply(&reference).await
    }

    /// Asks to join and does not wait for the answer; returns the push's ref.
    pub async fn send_join(&mut self, channel: &str, token: Option<&str>, config: Value) -> Result<String> {
        let mut payload = json!({"config": config});
        if let Some(token) = token {
            payload["access_token"] = token.into();
        }
        let reference = self.new_ref();
        self.join_refs.insert(channel.to_owned(), reference.clone());
        self.push(Some(&reference), &reference, channel, "phx_join", payload).await?;
        Ok(reference)
    }

    /// Leaves; the server's `phx_close` is read too.
    pub async fn leave(&mut self, channel: &str) -> Result<Reply> {
        let reply = self.request(channel, "phx_leave", json!({})).await?;
        let topic = frame::topic(channel);
        self.frame_where("the close after a leave", |frame| {
            frame.topic == topic && frame.event == "phx_close"
        })
        .await?;
        self.join_refs.remove(channel);
        Ok(reply)
    }

    /// Sends a heartbeat and waits for its answer.
    pub async fn heartbeat(&mut self) -> Result<Reply> {
        let reference = self.send_heartbeat().await?;
        self.reply(&reference).await
    }

    /// Sends a heartbeat and does not wait for the answer; returns its ref.
    pub async fn send_heartbeat(&mut self) -> Result<String> {
        let reference = self.new_ref();
        let frame = Frame::push(None, Some(&reference), "phoenix", "heartbeat", json!({}));
        self.send_raw(frame::encode(&frame, self.vsn)).await?;
        Ok(reference)
    }

    /// Replaces the channel's token; there is never an answer.
    pub async fn set_token(&mut self, channel: &str, token: &str) -> Result<()> {
        let reference = self.new_ref();
        let join_ref = self.join_refs.get(channel).cloned();
        self.push(join_ref.as_deref(), &reference, channel, "access_token", json!({"access_token": token}))
            .await
    }

    /// Broadcasts as the stock client does: a binary frame in 2.0.0, text in 1.0.0.
    /// Returns the push's ref; an answer comes only on channels joined with `ack`.
    pub async fn broadcast(&mut self, channel: &str, event: &str, payload: Value) -> Result<String> {
        let reference = self.new_ref();
        let join_ref = self.join_refs.get(channel).cloned();
        match self.vsn {
            Vsn::V1 => {
                let payload = json!({"type": "broadcast", "event": event, "payload": payload});
                self.push(join_ref.as_deref(), &reference, channel, "broadcast", payload).await?;
            }
            Vsn::V2 => {
                let bytes = frame::broadcast_push(
                    &join_ref.unwrap_or_default(),
                    &reference,
                    &frame::topic(channel),
                    event,
                    &payload,
                )?;
                self.send_raw(Message::binary(bytes)).await?;
            }
        }
        Ok(reference)
    }

    /// Pushes any event on a channel and waits for the answer.
    pub async fn request(&mut self, channel: &str, event: &str, payload: Value) -> Result<Reply> {
        let reference = self.send_push(channel, event, payload).await?;
        self.reply(&reference).await
    }

    /// Pushes any event on a channel and does not wait for the answer; returns its ref.
    pub async fn send_push(&mut self, channel: &str, event: &str, payload: Value) -> Result<String> {
        let reference = self.new_ref();
        let join_ref = self.join_refs.get(channel).cloned();
        self.push(join_ref.as_deref(), &reference, channel, event, payload).await?;
        Ok(reference)
    }

    async fn push(
        &mut self,
        join_ref: Option<&str>,
        reference: &str,
        channel: &str,
        event: &str,
        payload: Value,
    ) -> Result<()> {
        let topic = frame::topic(channel);
        let frame = Frame::push(join_ref, Some(reference), &topic, event, payload);
        self.send_raw(frame::encode(&frame, self.vsn)).await
    }

    /// Sends a message as it is, also a malformed one.
    pub async fn send_raw(&mut self, message: Message) -> Result<()> {
        self.stream.send(message).await.context("cannot send")
    }

    /// Sends bytes that may be no frame.
    pub async fn send_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.get_mut().write_all(bytes).await.context("cannot send")
    }

    fn new_ref(&mut self) -> String {
        self.last_ref += 1;
        self.last_ref.to_string()
    }

    /// Waits for the answer to the push with this ref; other frames wait.
    pub async fn reply(&mut self, reference: &str) -> Result<Reply> {
        let frame = self
            .frame_where(&format!("the answer to push {reference}"), |frame| {
                frame.event == "phx_reply" && frame.reference.as_deref() == Some(reference)
            })
            .await?;
        Ok(Reply {
            status: frame.payload["status"].as_str().unwrap_or_default().to_owned(),
            response: frame.payload["response"].clone(),
        })
    }

    /// The next frame that is a broadcast on one of our channels. Presence frames
    /// pass, and so does who comes online; a channel that is closed or in error fails.
    pub async fn next_event(&mut self) -> Result<Event> {
        loop {
            let is_next = |frame: &Frame| frame.event != "phx_reply" && !is_status(frame);
            let frame = self.frame_where("a broadcast", is_next).await?;
            match frame.event.as_str() {
                "broadcast" => return event_of(frame),
                "presence_state" | "presence_diff" => {}
                "system" if frame.payload["status"] == "ok" => {}
                _ => bail!("instead of a broadcast came {frame:?}"),
            }
        }
    }

    /// The next `agent:status:online` or `agent:status:offline`.
    pub async fn next_status(&mut self) -> Result<Event> {
        event_of(self.frame_where("an agent's status", is_status).await?)
    }

    /// [`Socket::next_event`] for a watcher that has nothing to wait for: `None`
    /// after 20 seconds of silence, when it is time for a heartbeat.
    pub async fn event_or_silence(&mut self) -> Result<Option<Event>> {
        while !self.waiting.iter().any(|frame| frame.event == "broadcast" && !is_status(frame)) {
            match tokio::time::timeout(SILENCE, self.read()).await {
                Err(_) => return Ok(None),
                Ok(frame) => self.waiting.push_back(frame?),
            }
        }
        self.next_event().await.map(Some)
    }

    /// The next `count` broadcasts.
    pub async fn next_events(&mut self, count: usize) -> Result<Vec<Event>> {
        let mut events = Vec::with_capacity(count);
        for number in 1..=count {
            let event = self.next_event().await;
            events.push(event.with_context(|| format!("event {number} of {count}"))?);
        }
        Ok(events)
    }

    /// The next broadcast, which must be this one.
    pub async fn expect(&mut self, channel: &str, name: &str) -> Result<Event> {
        let event = self.next_event().await.with_context(|| format!("expected {name} on {channel}"))?;
        ensure!(
            event.channel == channel && event.name == name,
            "expected {name} on {channel}, got {event:?}"
        );
        Ok(event)
    }

    /// Waits for the first frame that `wanted` accepts. Frames before it stay, in
    /// order, for whoever asks next.
    pub async fn frame_where(&mut self, what: &str, wanted: impl Fn(&Frame) -> bool) -> Result<Frame> {
        if let Some(index) = self.waiting.iter().position(&wanted) {
            return Ok(self.waiting.remove(index).expect("the index was just found"));
        }
        let deadline = tokio::time::Instant::now() + DEADLINE;
        loop {
            let frame = tokio::time::timeout_at(deadline, self.read())
                .await
                .with_context(|| format!("waited {DEADLINE:?} for {what}; got {:?}", self.waiting))?
                .with_context(|| format!("while waiting for {what}"))?;
            if wanted(&frame) {
                return Ok(frame);
            }
            self.waiting.push_back(frame);
        }
    }

    /// The next frame of any kind, for those who must see them all in the order they came. Waits for as long as it
    /// takes; may be dropped without losing a frame.
    pub async fn next_frame(&mut self) -> Result<Frame> {
        match self.waiting.pop_front() {
            Some(frame) => Ok(frame),
            None => self.read().await,
        }
    }

    async fn read(&mut self) -> Result<Frame> {
        let message = self.next_message().await?;
        frame::decode(message, self.vsn)
    }

    /// The next message as it came, past all frames that wait: for those who read too many to take them apart.
    pub async fn next_message(&mut self) -> Result<Message> {
        loop {
            match self.stream.next().await {
                None => bail!("the server closed the socket"),
                Some(Err(error)) => return Err(error).context("cannot read"),
                Some(Ok(Message::Close(close))) => {
                    let code = close.as_ref().map(|close| close.code.into());
                    let reason = close.map(|close| close.reason.as_str().to_owned()).unwrap_or_default();
                    bail!(Closed { code, reason });
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(message)) => return Ok(message),
            }
        }
    }

    /// Waits for the close frame and returns its code.
    pub async fn wait_for_close(&mut self) -> Result<Option<u16>> {
        let deadline = tokio::time::Instant::now() + DEADLINE;
        loop {
            let message = tokio::time::timeout_at(deadline, self.stream.next())
                .await
                .context("the server does not close the socket")?;
            match message {
                Some(Ok(Message::Close(close))) => {
                    return Ok(close.map(|close| close.code.into()));
                }
                None | Some(Err(_)) => return Ok(None),
                Some(Ok(_)) => {}
            }
        }
    }

    /// Closes as a client does that goes away politely.
    pub async fn close(mut self) -> Result<()> {
        self.stream.close(None).await.context("cannot close")
    }
}

/// What the stock client sends when the application asks for nothing special.
pub fn default_config() -> Value {
    json!({
        "broadcast": {"ack": false, "self": false},
        "presence": {"key": "", "enabled": false},
        "postgres_changes": [],
        "private": false,
    })
}

/// [`default_config`] with answers to broadcasts.
pub fn ack_config() -> Value {
    let mut config = default_config();
    config["broadcast"]["ack"] = true.into();
    config
}

/// Whether an agent came online or went: ephemeral, and at any time.
fn is_status(frame: &Frame) -> bool {
    frame.event == "broadcast"
        && frame.payload["event"].as_str().is_some_and(|event| event.starts_with("agent:status:"))
}

fn event_of(frame: Frame) -> Result<Event> {
    let channel = frame
        .topic
        .strip_prefix("realtime:")
        .with_context(|| format!("a topic without realtime: {frame:?}"))?
        .to_owned();
    let mut body = frame.payload;
    ensure!(body["type"] == "broadcast", "a broadcast without its type: {body}");
    Ok(Event {
        channel,
        name: body["event"].as_str().context("an event has a name")?.to_owned(),
        payload: body["payload"].take(),
        meta: body["meta"].take(),
        received_at: frame.received_at,
    })
}
