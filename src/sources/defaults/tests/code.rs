use serde_json::json;

use super::{check, on_shop};

#[test]
fn github_pushes() {
    let commits = json!([{}, {}, {}]);
    let head = json!({"message": "Fix rounding\n\nLong"});
    check(
        "github",
        &[
            (
                "push",
                on_shop(
                    &json!({"ref": "refs/heads/main", "commits": commits, "head_commit": head}),
                ),
                "ana pushed 3 commits to acme/shop: Fix rounding",
            ),
            (
                "push",
                on_shop(
                    &json!({"ref": "refs/heads/fix", "commits": [{}], "head_commit": head, "forced": true}),
                ),
                "ana force-pushed 1 commit to acme/shop (fix): Fix rounding",
            ),
            (
                "push",
                on_shop(
                    &json!({"ref": "refs/heads/fix", "commits": [], "head_commit": null, "deleted": true}),
                ),
                "ana deleted fix in acme/shop",
            ),
            (
                "push",
                on_shop(&json!({"ref": "refs/tags/v1", "commits": [], "head_commit": head})),
                "ana pushed v1 to acme/shop",
            ),
        ],
    );
}

#[test]
fn github_pull_requests() {
    let pull = json!({"title": "Round", "html_url": "https://g/2", "merged": false});
    let merged = json!({"title": "Round", "html_url": "https://g/2", "merged": true});
    check(
        "github",
        &[
            (
                "pull_request.opened",
                on_shop(&json!({"action": "opened", "number": 2, "pull_request": pull})),
                "ana opened pull request #2 in acme/shop: Round\nhttps://g/2",
            ),
            (
                "pull_request.closed",
                on_shop(&json!({"action": "closed", "number": 2, "pull_request": merged})),
                "ana merged pull request #2 in acme/shop: Round\nhttps://g/2",
            ),
            (
                "pull_request.closed",
                on_shop(&json!({"action": "closed", "number": 2, "pull_request": pull})),
                "ana closed pull request #2 in acme/shop: Round\nhttps://g/2",
            ),
            (
                "pull_request_review.submitted",
                on_shop(&json!({"pull_request": {"number": 2, "title": "Round"},
            "review": {"state": "changes_requested", "html_url": "https://g/v"}})),
                "ana reviewed pull request #2 in acme/shop (changes requested): Round\nhttps://g/v",
            ),
        ],
    );
}

#[test]
fn github_talk() {
    check(
        "github",
        &[
            (
                "issues.opened",
                on_shop(
                    &json!({"action": "opened", "issue": {"number": 7, "title": "Off by one",
            "html_url": "https://g/7"}}),
                ),
                "ana opened issue #7 in acme/shop: Off by one\nhttps://g/7",
            ),
            (
                "issue_comment.created",
                on_shop(&json!({"action": "created", "issue": {"number": 7},
            "comment": {"body": "Yes\r\nno", "html_url": "https://g/c"}})),
                "ana commented on #7 in acme/shop: Yes\nhttps://g/c",
            ),
        ],
    );
}

#[test]
fn github_others() {
    let run = json!({"name": "CI", "conclusion": "failure", "head_branch": "main", "html_url": "https://g/r"});
    check(
        "github",
        &[
            (
                "release.published",
                on_shop(&json!({"action": "published", "release": {"name": null,
            "tag_name": "v1", "html_url": "https://g/v1"}})),
                "ana published release v1 of acme/shop\nhttps://g/v1",
            ),
            (
                "workflow_run.completed",
                on_shop(&json!({"action": "completed", "workflow_run": run})),
                "CI failure on main in acme/shop\nhttps://g/r",
            ),
            (
                "create",
                on_shop(&json!({"ref": "fix", "ref_type": "branch"})),
                "ana created branch fix in acme/shop",
            ),
            (
                "star.created",
                on_shop(&json!({"action": "created"})),
                "ana starred acme/shop",
            ),
            (
                "ping",
                on_shop(&json!({})),
                "GitHub sends events of acme/shop to hub",
            ),
            (
                "ping",
                json!({"zen": "Less"}),
                "GitHub sends events of this hook to hub",
            ),
            (
                "gollum",
                on_shop(&json!({})),
                "hub gollum in acme/shop by ana",
            ),
            ("gollum", json!({}), "hub gollum"),
        ],
    );
}

#[test]
fn gitea() {
    let push = json!({"ref": "refs/heads/main", "commits": [{"message": "Fix\n"}], "total_commits": 1,
        "head_commit": {"message": "Fix\n"}});
    let pull = json!({"action": "opened", "number": 2, "pull_request": {"title": "Round", "html_url": "u"}});
    for preset in ["gitea", "forgejo", "gogs"] {
        check(
            preset,
            &[
                (
                    "push",
                    on_shop(&push),
                    "ana pushed 1 commit to acme/shop: Fix",
                ),
                (
                    "pull_request.opened",
                    on_shop(&pull),
                    "ana opened pull request #2 in acme/shop: Round\nu",
                ),
                (
                    "package",
                    on_shop(&json!({})),
                    "hub package in acme/shop by ana",
                ),
            ],
        );
    }
}

#[test]
fn gitlab() {
    let project = json!({"path_with_namespace": "acme/shop", "default_branch": "main"});
    let user = json!({"name": "Ana"});
    let commits = json!([{"message": "First"}, {"message": "Fix rounding\n"}]);
    check(
        "gitlab",
        &[
            (
                "push",
                json!({"user_name": "Ana", "ref": "refs/heads/main", "project": project, "checkout_sha": "a",
            "commits": commits, "total_commits_count": 4}),
                "Ana pushed 4 commits to acme/shop: Fix rounding",
            ),
            (
                "push",
                json!({"user_name": "Ana", "ref": "refs/heads/fix", "project": project, "checkout_sha": null,
            "commits": [], "total_commits_count": 0}),
                "Ana deleted fix in acme/shop",
            ),
            (
                "tag_push",
                json!({"user_name": "Ana", "ref": "refs/tags/v1", "project": project,
            "checkout_sha": "a"}),
                "Ana pushed tag v1 in acme/shop",
            ),
            (
                "merge_request.merge",
                json!({"user": user, "project": project, "object_attributes":
            {"action": "merge", "iid": 3, "title": "Round", "url": "https://l/3"}}),
                "Ana merged merge request !3 in acme/shop: Round\nhttps://l/3",
            ),
            (
                "confidential_issue.open",
                json!({"user": user, "project": project, "object_attributes":
            {"action": "open", "iid": 3, "title": "Leak", "url": "https://l/3"}}),
                "Ana opened confidential issue #3 in acme/shop: Leak\nhttps://l/3",
            ),
            (
                "issue.approved",
                json!({"user": user, "project": project, "object_attributes":
            {"action": "approved", "iid": 3, "title": "Round", "url": "https://l/3"}}),
                "Ana approved issue #3 in acme/shop: Round\nhttps://l/3",
            ),
            (
                "note",
                json!({"user": user, "project": project, "issue": {"iid": 3}, "object_attributes":
            {"note": "Yes\nno", "url": "https://l/n"}}),
                "Ana commented in acme/shop on #3: Yes\nhttps://l/n",
            ),
            (
                "pipeline.failed",
                json!({"project": project, "object_attributes": {"id": 31, "status": "failed",
            "ref": "main", "duration": 63, "url": "https://l/p"}}),
                "Pipeline #31 failed on main in acme/shop after 63 s\nhttps://l/p",
            ),
            (
                "build.success",
                json!({"build_name": "test", "build_status": "success", "ref": "main",
            "project_name": "shop"}),
                "Job test success on main in shop",
            ),
            (
                "other",
                json!({"user": user, "project": project}),
                "hub other in acme/shop by Ana",
            ),
        ],
    );
}

#[test]
fn bitbucket() {
    let repository = json!({"full_name": "acme/shop"});
    let actor = json!({"display_name": "Ana"});
    let new = json!({"name": "main", "target": {"message": "Fix\n"}});
    let pull = json!({"id": 2, "title": "Round", "links": {"html": {"href": "https://b/2"}}});
    check(
        "bitbucket",
        &[
            (
                "repo:push",
                json!({"actor": actor, "repository": repository, "push": {"changes": [{"new": new}]}}),
                "Ana pushed main to acme/shop: Fix",
            ),
            (
                "repo:push",
                json!({"actor": actor, "repository": repository,
            "push": {"changes": [{"new": null, "old": {"name": "fix"}}]}}),
                "Ana deleted fix in acme/shop",
            ),
            (
                "pullrequest:fulfilled",
                json!({"actor": actor, "repository": repository, "pullrequest": pull}),
                "Ana merged pull request #2 in acme/shop: Round\nhttps://b/2",
            ),
            (
                "pullrequest:created",
                json!({"actor": actor, "repository": repository, "pullrequest": pull}),
                "Ana created pull request #2 in acme/shop: Round\nhttps://b/2",
            ),
            (
                "repo:fork",
                json!({"actor": actor, "repository": repository}),
                "hub repo:fork in acme/shop by Ana",
            ),
        ],
    );
}

/// A push without the members that the line names: of a trimmed body, or of another program.
#[test]
fn a_push_without_its_members_is_still_a_line() {
    let repository = json!({"full_name": "acme/shop"});
    for preset in ["github", "gitea"] {
        check(
            preset,
            &[
                ("push", json!({}), "hub push"),
                (
                    "push",
                    json!({"repository": repository, "commits": [{}]}),
                    "hub push to acme/shop",
                ),
                (
                    "push",
                    json!({"repository": repository, "sender": {"login": "ana"}}),
                    "hub push to acme/shop by ana",
                ),
                (
                    "push",
                    json!({"repository": repository, "sender": {"login": "ana"}, "ref": "refs/heads/main",
                "commits": [{}]}),
                    "ana pushed 1 commit to acme/shop (main)",
                ),
            ],
        );
    }
    check(
        "gitlab",
        &[
            ("push", json!({}), "hub push"),
            (
                "push",
                json!({"user_name": "Ana", "project": {"path_with_namespace": "acme/shop"}}),
                "hub push to acme/shop by Ana",
            ),
        ],
    );
    check(
        "bitbucket",
        &[
            ("repo:push", json!({}), "hub push"),
            (
                "repo:push",
                json!({"repository": repository, "push": {"changes": []}}),
                "hub push to acme/shop",
            ),
        ],
    );
}

#[test]
fn github_states() {
    check(
        "github",
        &[
            (
                "status",
                on_shop(
                    &json!({"state": "failure", "context": "ci/build", "description": "2 tests failed",
                "branches": [{"name": "main"}], "target_url": "https://c/1"}),
                ),
                "ci/build failure on main in acme/shop: 2 tests failed\nhttps://c/1",
            ),
            (
                "status",
                on_shop(&json!({"state": "pending", "context": "ci", "target_url": null})),
                "ci pending in acme/shop",
            ),
            (
                "check_suite.completed",
                on_shop(&json!({"action": "completed", "check_suite":
            {"conclusion": "timed_out", "head_branch": "main", "app": {"name": "CI"}}})),
                "CI timed out on main in acme/shop",
            ),
            (
                "check_suite.requested",
                on_shop(
                    &json!({"action": "requested", "check_suite": {"conclusion": null, "status": "queued"}}),
                ),
                "Check suite queued in acme/shop",
            ),
        ],
    );
}

#[test]
fn bitbucket_data_center() {
    let repository = json!({"slug": "shop", "project": {"key": "ACME"}});
    let actor = json!({"name": "ana", "displayName": "Ana"});
    let change = |kind: &str| json!({"type": kind, "ref": {"displayId": "main"}, "refId": "refs/heads/main"});
    let pull = json!({"id": 2, "title": "Round", "toRef": {"repository": repository},
        "links": {"self": [{"href": "https://b/2"}]}});
    let pushed =
        |kind: &str| json!({"actor": actor, "repository": repository, "changes": [change(kind)]});
    let on_pull = json!({"actor": actor, "pullRequest": pull, "comment": {"text": "Yes\nno"}});
    check(
        "bitbucket",
        &[
            (
                "repo:refs_changed",
                pushed("UPDATE"),
                "Ana pushed main to ACME/shop",
            ),
            (
                "repo:refs_changed",
                pushed("ADD"),
                "Ana created main in ACME/shop",
            ),
            (
                "repo:refs_changed",
                pushed("DELETE"),
                "Ana deleted main in ACME/shop",
            ),
            (
                "repo:refs_changed",
                json!({"actor": {"name": "ana"}, "repository": repository, "toCommit": {"message": "Fix\n\nx"},
            "changes": [{"type": "UPDATE", "refId": "refs/heads/main"}, {}]}),
                "ana pushed main to ACME/shop: Fix and 1 more reference",
            ),
            (
                "pr:opened",
                on_pull.clone(),
                "Ana opened pull request #2 in ACME/shop: Round\nhttps://b/2",
            ),
            (
                "pr:reviewer:needs_work",
                on_pull.clone(),
                "Ana asked for changes to pull request #2 in ACME/shop: Round\nhttps://b/2",
            ),
            (
                "pr:comment:added",
                on_pull,
                "Ana commented on pull request #2 in ACME/shop: Yes",
            ),
            (
                "diagnostics:ping",
                json!({"test": true}),
                "Bitbucket tests hub",
            ),
            (
                "repo:forked",
                json!({"actor": actor, "repository": repository}),
                "hub repo:forked in ACME/shop by Ana",
            ),
        ],
    );
}
