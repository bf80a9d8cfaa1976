//! Who asks: as whom the statements of a request run.

use uuid::Uuid;

use super::error::{ApiError, Code};
use crate::auth::{Credential, Payer, Role};

/// Somebody with a token that is valid.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) credential: Credential,
    pub(super) payer: Payer,
}

/// The visitor of one conversation.
#[derive(Clone, Debug)]
pub(super) struct Visitor {
    pub(super) credential: Credential,
    pub(super) payer: Payer,
    pub(super) organization: Uuid,
    pub(super) conversation: Uuid,
}

impl Caller {
    /// As the visitor whose token it is.
    pub(super) fn visitor(self) -> Result<Visitor, ApiError> {
        let Self { credential, payer } = self;
        let claims = credential.claims().filter(|claims| claims.role == Role::Anon);
        let ids = claims.and_then(|claims| Some((claims.organization?, claims.conversation?)));
        let (organization, conversation) = ids.ok_or(Code::RoleNotAllowed)?;
        Ok(Visitor { credential, payer, organization, conversation })
    }
}
