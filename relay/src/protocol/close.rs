//! Why the relay closes a socket, and how it says so.

/// Why the server ends a socket. Becomes the WebSocket close frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The outbox overflowed.
    SlowConsumer,
    /// The client took nothing of what was written to it for the idle time.
    NotReading,
    /// Frames took too much memory, and this client was among those that had not read for longest.
    OutOfMemory,
    /// The client began a message and did not finish it, for too long or while memory was short.
    Unfinished,
    /// The client went on sending much faster than it may.
    OverRate,
    /// No frame came for the idle time.
    Idle,
    /// The relay is stopping.
    Shutdown,
    /// The client sent a message that is too large.
    FrameTooLarge,
    /// What the client sent is not WebSocket.
    ProtocolError,
    /// A text that is not UTF-8.
    InvalidText,
}

impl CloseReason {
    /// WebSocket close code: 1013 try again later, 1000 normal, 1012 service restart, 1009 message too big, 1008 policy
    /// violation, 1002 protocol error, 1007 invalid data (RFC 6455 and its registry).
    pub fn code(self) -> u16 {
        match self {
            Self::FrameTooLarge => 1009,
            Self::ProtocolError => 1002,
            Self::InvalidText => 1007,
            Self::SlowConsumer | Self::NotReading | Self::OutOfMemory | Self::Unfinished => 1013,
            Self::OverRate => 1008,
            Self::Idle => 1000,
            Self::Shutdown => 1012,
        }
    }

    /// The label of metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::SlowConsumer => "slow_consumer",
            Self::NotReading => "not_reading",
            Self::OutOfMemory => "memory",
            Self::Unfinished => "unfinished_message",
            Self::OverRate => "over_rate",
            Self::Idle => "idle",
            Self::Shutdown => "shutdown",
            Self::FrameTooLarge => "frame_too_large",
            Self::ProtocolError => "protocol_error",
            Self::InvalidText => "invalid_text",
        }
    }

    /// What the client is told.
    pub fn text(self) -> &'static str {
        match self {
            Self::SlowConsumer => "slow consumer: the outbox overflowed",
            Self::NotReading => "the client does not read",
            Self::OutOfMemory => "the relay is short of memory, and the client does not read",
            Self::Unfinished => "a message was begun and not finished",
            Self::OverRate => "too many messages per second",
            Self::Idle => "idle: no frame from the client",
            Self::Shutdown => "the relay is restarting",
            Self::FrameTooLarge => "message too large: see CAMPFIRE_MAX_FRAME_BYTES",
            Self::ProtocolError => "not a WebSocket frame",
            Self::InvalidText => "a text that is not UTF-8",
        }
    }
}
