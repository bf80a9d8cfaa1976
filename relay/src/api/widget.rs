//! What the widget of a visitor asks.

mod auth;
mod bind;
mod identify;
mod messages;
mod organization;
mod receipt;
mod session;

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;

pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(auth::auth))
        .routes(routes!(identify::identify))
        .routes(routes!(messages::list, messages::write))
        .routes(routes!(receipt::read))
}
