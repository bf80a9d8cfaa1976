//! The document that describes the API (OpenAPI 3.1), made of the routes themselves.

use std::sync::Arc;

use axum::body::Bytes;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    Components, ContentBuilder, Info, OpenApi, OpenApiBuilder, PathItem, Ref, RefOr, Response as Described,
    ResponseBuilder,
};
use utoipa::{PartialSchema, ToSchema};
use utoipa_axum::router::OpenApiRouter;

use super::Api;
use super::error::ErrorAnswer;
use super::{dashboard, widget};

const BEARER: &str = "token";

/// All routes, with what they say of themselves.
pub(super) fn routes() -> (axum::Router<Arc<Api>>, OpenApi) {
    let info = Info::new("campfire", env!("CARGO_PKG_VERSION"));
    let document = OpenApiBuilder::new().info(info).build();
    OpenApiRouter::with_openapi(document).merge(widget::routes()).merge(dashboard::routes()).split_for_parts()
}

/// The document, with what is the same for all routes.
pub(super) fn text(mut document: OpenApi) -> Bytes {
    let mut schemas = Vec::new();
    ErrorAnswer::schemas(&mut schemas);
    schemas.push((ErrorAnswer::name().into_owned(), ErrorAnswer::schema()));
    let components = document.components.get_or_insert_with(Components::new);
    components.schemas.extend(schemas);
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
    components.add_security_scheme(BEARER, SecurityScheme::Http(bearer));
    components.responses.insert("Error".to_owned(), RefOr::T(error()));
    document.security = Some(vec![SecurityRequirement::new::<_, [&str; 0], &str>(BEARER, [])]);
    for item in document.paths.paths.values_mut() {
        for operation in operations(item) {
            let error = RefOr::Ref(Ref::from_response_name("Error"));
            operation.responses.responses.insert("default".to_owned(), error);
        }
    }
    document.to_json().expect("a document of texts and maps is JSON").into()
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut utoipa::openapi::path::Operation> {
    [&mut item.get, &mut item.post, &mut item.patch].into_iter().flatten()
}

fn error() -> Described {
    let content =
        ContentBuilder::new().schema(Some(RefOr::Ref(Ref::from_schema_name(ErrorAnswer::name())))).build();
    let description = "The request is not served; docs/api.md lists the codes";
    ResponseBuilder::new().description(description).content("application/json", content).build()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use serde_json::Value;

    use super::*;

    #[test]
    fn every_operation_has_a_name_of_its_own_and_says_how_it_fails() {
        let (_, document) = routes();
        let document: Value = serde_json::from_slice(&text(document)).unwrap();
        let paths = document["paths"].as_object().unwrap();
        let operations: Vec<_> = paths.values().flat_map(|item| item.as_object().unwrap().values()).collect();
        let names: HashSet<_> =
            operations.iter().map(|operation| operation["operationId"].as_str().unwrap()).collect();
        assert!(names.len() == operations.len() && names.len() >= 5, "{names:?}");
        for operation in operations {
            let default = &operation["responses"]["default"]["$ref"];
            assert_eq!(default, "#/components/responses/Error", "{operation}");
        }
    }
}
