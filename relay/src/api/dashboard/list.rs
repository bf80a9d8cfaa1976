//! `GET /api/dashboard/conversations`: the conversations of an organization, latest first, a page at a time.

use std::fmt::Write;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use futures_util::FutureExt;
use serde::{Deserialize, Serialize};
use tokio_postgres::types::Type;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::conversation::{ConversationRow, Priority, Selection, Status};
use super::staff::{Member, OrganizationQuery};
use crate::api::Api;
use crate::api::database::{Failure, Transaction};
use crate::api::error::ApiError;
use crate::api::page::{Cursor, PageQuery, query};
use crate::api::text::optional;
use crate::route::parse_uuid;

/// Which conversations.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Filter {
    #[param(inline)]
    status: Option<Status>,
    #[param(inline)]
    priority: Option<Priority>,
    /// `me`, `none`, or an agent's user id.
    #[param(value_type = Option<String>, pattern = "^(me|none|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})$")]
    assignee: Option<Assignee>,
    /// A part of the customer's name or e-mail address, in whatever case.
    #[param(max_length = 255)]
    search: Option<String>,
}

/// To whom a conversation is assigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
enum Assignee {
    /// Whoever asks.
    Me,
    Nobody,
    Agent(Uuid),
}

impl TryFrom<String> for Assignee {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.as_str() {
            "me" => Ok(Self::Me),
            "none" => Ok(Self::Nobody),
            id => parse_uuid(id).map(Self::Agent).ok_or("expected `me`, `none` or a user's id"),
        }
    }
}

/// A page of conversations.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Conversations)]
pub(super) struct List {
    conversations: Vec<ConversationRow>,
    /// For the next page; null if this is the last one.
    cursor: Option<String>,
}

/// The organization's conversations, latest first.
///
/// A conversation that changes while you turn pages moves to the first one, so no page shows it twice; that it changed is
/// an event on the organization's channel.
#[utoipa::path(
    get,
    path = "/api/dashboard/conversations",
    tag = "dashboard",
    params(OrganizationQuery, Filter, PageQuery),
    responses((status = OK, description = "A page", body = List))
)]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    organization: Result<Query<OrganizationQuery>, QueryRejection>,
    filter: Result<Query<Filter>, QueryRejection>,
    wanted: Result<Query<PageQuery>, QueryRejection>,
    request: Request,
) -> Result<Json<List>, ApiError> {
    let (head, _) = request.into_parts();
    let staff = api.staff(&head, organization).await?;
    let Filter { status, priority, assignee, search } = query(filter)?;
    if assignee == Some(Assignee::Me) && !staff.is_agent() {
        return Err(ApiError::invalid("`assignee=me` is for agents"));
    }
    let page = query(wanted)?;
    let wanted = Wanted {
        status,
        priority,
        assignee,
        pattern: optional("search", search)?.map(|search| pattern(&search)),
        after: page.cursor()?,
        limit: page.limit()?,
    };
    let list = staff.read(&api, move |sql, member| async move { read(sql, &member, &wanted).await }.boxed());
    Ok(Json(list.await?))
}

/// What is asked for, as far as it is known before the database is.
struct Wanted {
    status: Option<Status>,
    priority: Option<Priority>,
    assignee: Option<Assignee>,
    pattern: Option<String>,
    after: Option<Cursor>,
    limit: u32,
}

async fn read(sql: &Transaction, member: &Member, wanted: &Wanted) -> Result<List, Failure> {
    let Wanted { status, priority, assignee, pattern, after, limit } = wanted;
    let mut selection = Selection::of(member);
    let mut conditions = String::new();
    let mut and = |condition: std::fmt::Arguments<'_>| {
        write!(conditions, " and {condition}").expect("a string takes all");
    };
    // As literals: there are partial indexes that a parameter would not be known to fit.
    if let Some(status) = status {
        and(format_args!("c.status = '{}'", status.word()));
    }
    if let Some(priority) = priority {
        and(format_args!("c.priority = '{}'", priority.word()));
    }
    match assignee {
        None => {}
        Some(Assignee::Me) => and(format_args!("c.assignee_id = $2")),
        Some(Assignee::Nobody) => and(format_args!("c.assignee_id is null")),
        Some(Assignee::Agent(user)) => {
            let user = selection.bind(user, Type::UUID);
            and(format_args!("c.assignee_id = {user}"));
        }
    }
    if let Some(pattern) = pattern {
        let pattern = selection.bind(pattern, Type::TEXT);
        and(format_args!("(c.customer_name ilike {pattern} or c.customer_email ilike {pattern})"));
    }
    if let Some(Cursor { time, id }) = after {
        let (time, id) = (selection.bind(time, Type::TIMESTAMPTZ), selection.bind(id, Type::UUID));
        // One goes down, the other up, so they cannot be compared as one.
        and(format_args!("c.updated_at <= {time} and (c.updated_at < {time} or c.id > {id})"));
    }
    // One more tells whether there are more.
    let mut conversations = selection.read(sql, &conditions, i64::from(*limit) + 1).await?;
    let has_more = conversations.len() > *limit as usize;
    conversations.truncate(*limit as usize);
    let last = conversations.last().filter(|_| has_more);
    let cursor = last.map(|last| last.place().to_text());
    Ok(List { conversations, cursor })
}

/// What LIKE finds wherever the text stands, as it stands.
fn pattern(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len() + 2);
    pattern.push('%');
    for character in text.chars() {
        if matches!(character, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern.push('%');
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_searched_for_is_a_wildcard() {
        for (text, expected) in
            [("ada", "%ada%"), ("100%", "%100\\%%"), ("a_b", "%a\\_b%"), ("\\", "%\\\\%"), ("é", "%é%")]
        {
            assert_eq!(pattern(text), expected);
        }
    }

    #[test]
    fn an_assignee_is_a_word_or_an_id() {
        let read = |text: &str| Assignee::try_from(text.to_owned());
        let id = Uuid::from_u128(7);
        assert_eq!(read("me"), Ok(Assignee::Me));
        assert_eq!(read("none"), Ok(Assignee::Nobody));
        assert_eq!(read(&id.to_string()), Ok(Assignee::Agent(id)));
        for text in ["", "Me", "null", "7"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
