//! A cursor over one message: big-endian integers, C strings and slices that share the message's memory.

use bytes::{Buf, Bytes};

use super::DecodeError;
use crate::postgres::{Lsn, Timestamp};

pub(super) struct Reader {
    rest: Bytes,
}

impl Reader {
    pub(super) fn new(bytes: Bytes) -> Reader {
        Reader { rest: bytes }
    }

    pub(super) fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub(super) fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.rest.try_get_u8().map_err(|_| DecodeError::Truncated { field })
    }

    pub(super) fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        self.rest.try_get_u16().map_err(|_| DecodeError::Truncated { field })
    }

    pub(super) fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        self.rest.try_get_u32().map_err(|_| DecodeError::Truncated { field })
    }

    pub(super) fn i32(&mut self, field: &'static str) -> Result<i32, DecodeError> {
        self.rest.try_get_i32().map_err(|_| DecodeError::Truncated { field })
    }

    pub(super) fn lsn(&mut self, field: &'static str) -> Result<Lsn, DecodeError> {
        self.rest.try_get_u64().map(Lsn).map_err(|_| DecodeError::Truncated { field })
    }

    pub(super) fn timestamp(&mut self, field: &'static str) -> Result<Timestamp, DecodeError> {
        self.rest.try_get_i64().map(Timestamp).map_err(|_| DecodeError::Truncated { field })
    }

    /// The bytes before the next zero byte, which is consumed too.
    pub(super) fn c_string(&mut self, field: &'static str) -> Result<Bytes, DecodeError> {
        let end = self.rest.iter().position(|&byte| byte == 0).ok_or(DecodeError::Truncated { field })?;
        let text = self.rest.split_to(end);
        self.rest.advance(1);
        Ok(text)
    }

    /// A name. Only a SQL_ASCII database can send one that is not UTF-8; replacing what is not keeps the stream
    /// alive, and such a name matches no route.
    pub(super) fn name(&mut self, field: &'static str) -> Result<String, DecodeError> {
        Ok(String::from_utf8_lossy(&self.c_string(field)?).into_owned())
    }

    pub(super) fn bytes(&mut self, length: usize, field: &'static str) -> Result<Bytes, DecodeError> {
        if length > self.rest.len() {
            return Err(DecodeError::Truncated { field });
        }
        Ok(self.rest.split_to(length))
    }

    /// What has not been read yet, without reading it.
    pub(super) fn peek(&self) -> &[u8] {
        &self.rest
    }
}
