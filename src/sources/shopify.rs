//! Topics of Shopify, and which of them a body bears out.
//!
//! Shopify signs the body alone, and sends one body under several topics: an order that is paid at once is
//! created, updated and paid. So the topic of a request can be false, and a body can come more than once. A
//! body names its resource and shows its state; only what it shows counts. Called through the preset.

use serde_json::Value;

use super::Incoming;
use super::event::{field, text};

/// The topics of a resource whose bodies are alike.
struct Resource {
    /// As in the member `admin_graphql_api_id`: `gid://shopify/Order/1`.
    name: &'static str,
    /// The topic for a body under any other topic: it says no more than that there is such a resource.
    usual: &'static str,
    topics: &'static [Topic],
}

/// A topic, and the state of a resource that it tells of.
struct Topic {
    name: &'static str,
    is_borne_out: fn(&Value) -> bool,
}

const fn any(name: &'static str) -> Topic {
    Topic {
        name,
        is_borne_out: |_| true,
    }
}

const fn of_state(name: &'static str, is_borne_out: fn(&Value) -> bool) -> Topic {
    Topic { name, is_borne_out }
}

/// Deletions and edits have bodies of their own, without that member, and no topic shares them.
static RESOURCES: [Resource; 7] = [
    Resource {
        name: "Order",
        usual: "orders/updated",
        topics: &[
            any("orders/create"),
            any("orders/updated"),
            of_state("orders/paid", |order| {
                let is = |state| text(order, "/financial_status") == Some(state);
                is("paid") || is("partially_refunded") || is("refunded")
            }),
            of_state("orders/fulfilled", |order| {
                text(order, "/fulfillment_status") == Some("fulfilled")
            }),
            of_state("orders/partially_fulfilled", |order| {
                text(order, "/fulfillment_status") == Some("partial")
            }),
            of_state("orders/cancelled", |order| {
                text(order, "/cancelled_at").is_some()
            }),
        ],
    },
    Resource {
        name: "Customer",
        usual: "customers/update",
        topics: &[
            any("customers/create"),
            any("customers/update"),
            of_state("customers/enable", |customer| {
                text(customer, "/state") == Some("enabled")
            }),
            of_state("customers/disable", |customer| {
                text(customer, "/state") == Some("disabled")
            }),
        ],
    },
    Resource {
        name: "Product",
        usual: "products/update",
        topics: &[any("products/create"), any("products/update")],
    },
    Resource {
        name: "Collection",
        usual: "collections/update",
        topics: &[any("collections/create"), any("collections/update")],
    },
    Resource {
        name: "DraftOrder",
        usual: "draft_orders/update",
        topics: &[any("draft_orders/create"), any("draft_orders/update")],
    },
    Resource {
        name: "Fulfillment",
        usual: "fulfillments/update",
        topics: &[any("fulfillments/create"), any("fulfillments/update")],
    },
    Resource {
        name: "Refund",
        usual: "refunds/create",
        topics: &[any("refunds/create")],
    },
];

/// `orders/create`. Of a body with a resource, a topic that it bears out.
pub(super) fn event(incoming: &Incoming<'_>, body: &Value) -> Option<String> {
    let sent = sent_topic(incoming);
    borne_out(sent, body).or(sent).map(str::to_owned)
}

/// What tells apart the events that share a body: a topic that it bears out. Of other bodies, nothing.
pub(super) fn variant(incoming: &Incoming<'_>, body: &Value) -> &'static str {
    borne_out(sent_topic(incoming), body).unwrap_or("")
}

fn sent_topic<'a>(incoming: &Incoming<'a>) -> Option<&'a str> {
    field(incoming, &["X-Shopify-Topic", "Shopify-Topic"])
}

/// The topic if the body bears it out, else the resource's usual one. `None`: the body names no resource.
fn borne_out(sent: Option<&str>, body: &Value) -> Option<&'static str> {
    let id = text(body, "/admin_graphql_api_id")?.strip_prefix("gid://shopify/")?;
    let (name, _) = id.split_once('/')?;
    let resource = RESOURCES.iter().find(|resource| resource.name == name)?;
    let topic = resource
        .topics
        .iter()
        .find(|topic| Some(topic.name) == sent);
    let topic = topic.filter(|topic| (topic.is_borne_out)(body));
    Some(topic.map_or(resource.usual, |topic| topic.name))
}
