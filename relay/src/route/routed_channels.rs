//! What the routes say about channels: which events are theirs alone, and which private channels they feed.

use std::collections::HashMap;

use super::event_name::fold;
use super::rule::{Operation, Route};
use super::template::Template;
use super::topic::Topic;

#[derive(Debug, Default, PartialEq, Eq)]
pub struct RoutedChannels {
    /// By the event's name, as clients compare it, the channels on which it tells of committed rows.
    events: HashMap<String, Vec<Template>>,
    /// Outside `org:`, to which rows go privately.
    private: Vec<Template>,
    /// Of these the ones that get new rows, so that a snapshot has some.
    with_rows: Vec<Template>,
}

impl RoutedChannels {
    pub fn new(routes: &[Route]) -> Self {
        let mut known = Self::default();
        for route in routes {
            add(known.events.entry(fold(&route.event)).or_default(), &route.channel);
            if route.is_private() {
                add(&mut known.private, &route.channel);
            }
            if route.is_private() && route.operation == Operation::Insert {
                add(&mut known.with_rows, &route.channel);
            }
        }
        known
    }

    /// Whether nobody may send an event of this name to a topic, because a route does: it would pass for a committed
    /// row.
    pub fn reserves(&self, topic: &Topic, event: &str) -> bool {
        !self.events.is_empty() && can_address(self.events.get(&fold(event)), topic)
    }

    /// Whether rows go to the private channel of this name.
    pub fn feed(&self, topic: &Topic) -> bool {
        can_address(Some(&self.private), topic)
    }

    /// Whether a snapshot of it has rows.
    pub fn have_rows(&self, topic: &Topic) -> bool {
        can_address(Some(&self.with_rows), topic)
    }
}

fn add(channels: &mut Vec<Template>, channel: &Template) {
    if !channels.contains(channel) {
        channels.push(channel.clone());
    }
}

fn can_address(channels: Option<&Vec<Template>>, topic: &Topic) -> bool {
    channels.is_some_and(|channels| channels.iter().any(|channel| channel.can_address(topic)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(operation: Operation, channel: &str, event: &str, public: bool) -> Route {
        Route {
            id: 1,
            schema: "public".to_owned(),
            table: "orders".to_owned(),
            relation: Some(1),
            operation,
            on_move: false,
            channel: Template::parse(channel).unwrap(),
            event: event.to_owned(),
            columns: vec!["id".to_owned()],
            when_changed: None,
            public,
            snapshot_by: None,
            gate: None,
        }
    }

    #[test]
    fn what_a_route_sends_is_reserved_on_its_channels_in_every_spelling() {
        let known = RoutedChannels::new(&[
            route(Operation::Insert, "shop:{id}", "order:created", false),
            route(Operation::Insert, "bcast:news", "Published", true),
            route(Operation::Update, "org:{org}", "order:updated", false),
        ]);
        let org = "org:6ba7b810-9dad-11d1-80b4-00c04fd430c8";
        let check = |topic: &str, event: &str, expected| {
            let topic = Topic::parse(topic).unwrap();
            assert_eq!(known.reserves(&topic, event), expected, "{topic} {event}");
        };
        check("shop:7", "order:created", true);
        check("bcast:shop:7", "ORDER:Created", true);
        check("shop:7", "order:created\u{307}", true);
        check("shop:7", "order:updated", false);
        check("shop:7", "typing", false);
        check("shops:7", "order:created", false);
        check("news", "published", true);
        check(org, "order:updated", true);
        check(&format!("{org}:conversations"), "order:updated", false);
    }

    #[test]
    fn private_routes_feed_the_channels_of_their_templates() {
        let known = RoutedChannels::new(&[
            route(Operation::Delete, "shop:{id}", "order:deleted", false),
            route(Operation::Insert, "shop:{id}:orders", "order:created", false),
            route(Operation::Insert, "news", "published", true),
            route(Operation::Insert, "org:{org}", "order:created", false),
        ]);
        let check = |topic: &str, expected| {
            let topic = Topic::parse(topic).unwrap();
            assert_eq!((known.feed(&topic), known.have_rows(&topic)), expected, "{topic}");
        };
        check("shop:7", (true, false));
        check("shop:7:orders", (true, true));
        check("news", (false, false));
        check("org:6ba7b810-9dad-11d1-80b4-00c04fd430c8", (false, false));
    }
}
