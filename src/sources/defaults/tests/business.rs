use serde_json::{Value, json};

use super::check;

#[test]
fn stripe() {
    let object =
        |object: Value, livemode: bool| json!({"livemode": livemode, "data": {"object": object}});
    check(
        "stripe",
        &[
            (
                "payment_intent.succeeded",
                object(
                    json!({"id": "pi_1", "amount_received": 2000, "currency": "usd"}),
                    true,
                ),
                "Payment of 20.00 USD succeeded: pi_1",
            ),
            (
                "payment_intent.payment_failed",
                object(
                    json!({"id": "pi_1", "amount": 500, "currency": "jpy",
            "last_payment_error": {"message": "Card declined"}}),
                    true,
                ),
                "Payment of 500 JPY failed: Card declined",
            ),
            (
                "invoice.payment_failed",
                object(
                    json!({"id": "in_1", "amount_due": 1000, "currency": "eur",
            "hosted_invoice_url": null}),
                    false,
                ),
                "Payment of invoice in_1 failed: 10.00 EUR due (test mode)",
            ),
            (
                "invoice.paid",
                object(
                    json!({"number": "A-1", "amount_paid": 1000, "currency": "eur",
            "hosted_invoice_url": "https://s/i"}),
                    true,
                ),
                "Invoice A-1 paid: 10.00 EUR\nhttps://s/i",
            ),
            (
                "checkout.session.completed",
                object(json!({"amount_total": 50, "currency": "eur"}), true),
                "Checkout completed: 0.50 EUR",
            ),
            (
                "customer.subscription.trial_will_end",
                object(json!({"id": "sub_1", "status": "past_due"}), true),
                "Subscription trial will end: sub_1 is past due",
            ),
            (
                "charge.dispute.created",
                object(
                    json!({"amount": 100, "currency": "usd", "status": "needs_response",
            "reason": "fraudulent"}),
                    true,
                ),
                "Dispute over 1.00 USD: needs response, fraudulent",
            ),
            (
                "payout.paid",
                object(json!({"id": "po_1"}), false),
                "hub payout.paid: po_1 (test mode)",
            ),
            ("payout.paid", json!({}), "hub payout.paid"),
        ],
    );
}

#[test]
fn shopify() {
    check(
        "shopify",
        &[
            (
                "orders/create",
                json!({"name": "#1001", "total_price": "20.00", "currency": "EUR"}),
                "Order #1001 created: 20.00 EUR",
            ),
            (
                "orders/partially_fulfilled",
                json!({"name": "#1001", "total_price": "20.00", "currency": "EUR"}),
                "Order #1001 partially fulfilled: 20.00 EUR",
            ),
            (
                "orders/edited",
                json!({"order_edit": {"id": 1, "order_id": 9, "staff_note": "One hat more"}}),
                "Order 9 edited: One hat more",
            ),
            (
                "orders/edited",
                json!({"order_edit": {"order_id": 9, "staff_note": ""}}),
                "Order 9 edited",
            ),
            ("orders/delete", json!({"id": 9}), "Order 9 deleted"),
            (
                "products/update",
                json!({"title": "Hat"}),
                "Product updated: Hat",
            ),
            ("products/delete", json!({"id": 9}), "Product deleted: 9"),
            (
                "themes/publish",
                json!({"name": "Dawn"}),
                "hub themes/publish: Dawn",
            ),
        ],
    );
}

#[test]
fn slack() {
    check(
        "slack",
        &[
            (
                "message",
                json!({"event": {"user": "U1", "channel": "C1", "text": "Deploy is green"}}),
                "U1 in C1: Deploy is green",
            ),
            (
                "message",
                json!({"event": {"bot_id": "B1", "channel": "C1", "text": "<https://a.example|build> &amp; test"}}),
                "B1 in C1: build (https://a.example) & test",
            ),
            (
                "message",
                json!({"event": {"subtype": "message_changed", "channel": "C1",
            "message": {"user": "U1", "text": "Deploy is red"}}}),
                "U1 in C1 (edited): Deploy is red",
            ),
            (
                "message",
                json!({"event": {"subtype": "message_deleted", "channel": "C1",
            "previous_message": {"user": "U1", "text": "secret"}}}),
                "A message was deleted in C1",
            ),
            (
                "message",
                json!({"event": {"user": "U1", "channel": "C1", "text": "", "files": [{}]}}),
                "U1 in C1: a message without text",
            ),
            (
                "app_mention",
                json!({"event": {"user": "U1", "channel": "C1", "text": "hi"}}),
                "U1 in C1: hi",
            ),
            (
                "app_mention",
                json!({"event": {"user": "U1", "channel": "C1", "text": ""}}),
                "U1 in C1: a message without text",
            ),
            (
                "command",
                json!({"user_name": "ana", "command": "/deploy", "text": "now"}),
                "ana: /deploy now",
            ),
            (
                "block_actions",
                json!({"user": {"username": "ana"}}),
                "hub block_actions by ana",
            ),
        ],
    );
}

#[test]
fn discord() {
    check(
        "discord",
        &[
            (
                "application_command",
                json!({"member": {"user": {"username": "ana"}}, "data": {"name": "deploy",
            "options": [{"name": "to", "value": "prod"}]}}),
                "ana: /deploy prod",
            ),
            (
                "APPLICATION_AUTHORIZED",
                json!({"event": {"data": {"user": {"username": "ana"},
            "guild": {"name": "Acme"}}}}),
                "ana added the app to Acme",
            ),
            (
                "modal_submit",
                json!({"user": {"username": "ana"}}),
                "hub modal_submit by ana",
            ),
        ],
    );
}

#[test]
fn telegram() {
    check(
        "telegram",
        &[
            (
                "message",
                json!({"message": {"from": {"first_name": "Ana"}, "text": "hi"}}),
                "Ana: hi",
            ),
            (
                "message",
                json!({"message": {"from": {"first_name": "Ana"}, "photo": []}}),
                "Ana: a message without text",
            ),
            (
                "channel_post",
                json!({"channel_post": {"chat": {"title": "News"}, "text": "hi"}}),
                "News: hi",
            ),
            ("poll", json!({}), "hub poll"),
        ],
    );
}

#[test]
fn linear() {
    check(
        "linear",
        &[
            (
                "Comment.create",
                json!({"type": "Comment", "action": "create", "url": "https://l/c", "actor":
            {"name": "Ana"}, "data": {"body": "Yes\nno", "issue": {"identifier": "LIN-1"}}}),
                "Ana commented on LIN-1: Yes\nhttps://l/c",
            ),
            (
                "Issue.update",
                json!({"type": "Issue", "action": "update", "url": "https://l/i",
            "data": {"identifier": "LIN-1", "title": "Round"}}),
                "Linear updated issue LIN-1: Round\nhttps://l/i",
            ),
            (
                "Project.remove",
                json!({"type": "Project", "action": "remove", "data": {"name": "P"}}),
                "Linear removed project : P",
            ),
        ],
    );
}

#[test]
fn zoom() {
    check(
        "zoom",
        &[
            (
                "meeting.started",
                json!({"event": "meeting.started", "payload": {"object": {"topic": "Daily"}}}),
                "Zoom meeting started: Daily",
            ),
            (
                "meeting.participant_joined",
                json!({"payload": {"object": {"topic": "Daily",
            "participant": {"user_name": "Ana"}}}}),
                "Ana joined the meeting Daily",
            ),
            ("user.created", json!({}), "hub user.created"),
        ],
    );
}

#[test]
fn telegram_members() {
    let changed = |name: &str| {
        json!({"update_id": 1, name: {"chat": {"title": "Acme"}, "from": {"first_name": "Ana"},
        "old_chat_member": {"status": "member"},
        "new_chat_member": {"status": "kicked", "user": {"first_name": "Bo"}}}})
    };
    check(
        "telegram",
        &[
            (
                "my_chat_member",
                changed("my_chat_member"),
                "Ana changed the bot in Acme: member before, kicked now",
            ),
            (
                "chat_member",
                changed("chat_member"),
                "Ana changed Bo in Acme: member before, kicked now",
            ),
            (
                "inline_query",
                json!({"inline_query": {"from": {"first_name": "Ana"}}}),
                "hub inline_query by Ana",
            ),
            ("poll", json!({"poll": {"id": "1"}}), "hub poll"),
        ],
    );
}

#[test]
fn standard() {
    check(
        "standard",
        &[
            (
                "invoice.paid",
                json!({"type": "invoice.paid", "data": {"id": "inv_1"}}),
                "hub invoice.paid: inv_1",
            ),
            (
                "user.created",
                json!({"data": {"id": 1, "name": "Ana"}}),
                "hub user.created: Ana",
            ),
            ("made", json!({"data": [1]}), "hub made"),
            ("", json!({}), "hub"),
        ],
    );
}
