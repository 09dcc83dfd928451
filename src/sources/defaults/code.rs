//! Templates of the presets for code: GitHub, Gitea and its relatives, GitLab, Bitbucket.

use super::Defaults;

/// Alike at GitHub and Gitea.
const ISSUE: (&str, &str) = (
    "issues.*",
    "{{ sender.login }} {{ action|replace('_', ' ') }} issue #{{ issue.number }} in \
     {{ repository.full_name }}: {{ issue.title|truncate(200) }}\n{{ issue.html_url }}",
);

/// Alike at GitHub and Gitea.
const ISSUE_COMMENT: (&str, &str) = (
    "issue_comment.*",
    "{{ sender.login }} {{ 'commented' if action == 'created' else action ~ ' a comment' }} on \
     #{{ issue.number }} in {{ repository.full_name }}: \
     {{ comment.body|lines|first|truncate(200) }}\n{{ comment.html_url }}",
);

pub const GITHUB: Defaults = &[
    (
        "push",
        "{% set many = commits|length %}{% set name = pusher.name or sender.login %}\
         {% if not (name and ref and repository.full_name) %}{{ source }} push\
         {% if repository.full_name %} to {{ repository.full_name }}{% endif %}\
         {% if name %} by {{ name }}{% endif %}\
         {% elif deleted %}{{ name }} deleted {{ ref|branch }} in {{ repository.full_name }}\
         {% elif not many %}{{ name }} pushed {{ ref|branch }} to {{ repository.full_name }}\
         {% else %}{{ name }} {{ 'force-pushed' if forced else 'pushed' }} {{ many }} \
         commit{{ 's' if many != 1 }} to {{ repository.full_name }}\
         {% if ref|branch != repository.default_branch %} ({{ ref|branch }}){% endif %}\
         {% if head_commit.message %}: {{ head_commit.message|lines|first|truncate(200) }}{% endif %}\
         {% endif %}",
    ),
    (
        "pull_request.*",
        "{{ sender.login }} {{ 'merged' if action == 'closed' and pull_request.merged \
         else action|replace('_', ' ') }} pull request #{{ number }} in {{ repository.full_name }}: \
         {{ pull_request.title|truncate(200) }}\n{{ pull_request.html_url }}",
    ),
    (
        "pull_request_review.*",
        "{{ sender.login }} reviewed pull request #{{ pull_request.number }} in \
         {{ repository.full_name }} ({{ review.state|replace('_', ' ') }}): \
         {{ pull_request.title|truncate(200) }}\n{{ review.html_url }}",
    ),
    (
        "pull_request_review_comment.*",
        "{{ sender.login }} commented on pull request #{{ pull_request.number }} in \
         {{ repository.full_name }}: {{ comment.body|lines|first|truncate(200) }}\n\
         {{ comment.html_url }}",
    ),
    ISSUE,
    ISSUE_COMMENT,
    (
        "commit_comment.*",
        "{{ sender.login }} commented on a commit in {{ repository.full_name }}: \
         {{ comment.body|lines|first|truncate(200) }}\n{{ comment.html_url }}",
    ),
    (
        "release.*",
        "{{ sender.login }} {{ action }} release {{ release.name or release.tag_name }} of \
         {{ repository.full_name }}\n{{ release.html_url }}",
    ),
    (
        "workflow_run.*",
        "{{ workflow_run.name or workflow.name or 'Workflow' }} \
         {{ workflow_run.conclusion or action|replace('_', ' ') }} on \
         {{ workflow_run.head_branch }} in {{ repository.full_name }}\n{{ workflow_run.html_url }}",
    ),
    (
        "workflow_job.*",
        "{{ workflow_job.workflow_name }} / {{ workflow_job.name }} \
         {{ workflow_job.conclusion or action|replace('_', ' ') }} in {{ repository.full_name }}\n\
         {{ workflow_job.html_url }}",
    ),
    (
        "check_run.*",
        "{{ check_run.name }} {{ check_run.conclusion or action|replace('_', ' ') }} in \
         {{ repository.full_name }}\n{{ check_run.html_url }}",
    ),
    (
        "check_suite.*",
        "{{ check_suite.app.name or 'Check suite' }} \
         {{ (check_suite.conclusion or check_suite.status or action)|replace('_', ' ') }}\
         {% if check_suite.head_branch %} on {{ check_suite.head_branch }}{% endif %} in \
         {{ repository.full_name }}",
    ),
    (
        "status",
        "{{ context or 'Status' }} {{ state }}\
         {% if branches|length == 1 %} on {{ branches[0].name }}{% endif %} in \
         {{ repository.full_name }}{% if description %}: {{ description|truncate(200) }}{% endif %}\n\
         {{ target_url }}",
    ),
    (
        "deployment_status.*",
        "Deployment to {{ deployment.environment }} of {{ repository.full_name }}: \
         {{ deployment_status.state|replace('_', ' ') }}\n{{ deployment_status.target_url }}",
    ),
    (
        "discussion.*",
        "{{ sender.login }} {{ action|replace('_', ' ') }} a discussion in \
         {{ repository.full_name }}: {{ discussion.title|truncate(200) }}\n{{ discussion.html_url }}",
    ),
    (
        "dependabot_alert.*",
        "Dependabot alert {{ action|replace('_', ' ') }} in {{ repository.full_name }} \
         ({{ alert.security_advisory.severity }}): {{ alert.security_advisory.summary|truncate(200) }}\n\
         {{ alert.html_url }}",
    ),
    (
        "create",
        "{{ sender.login }} created {{ ref_type }} {{ ref }} in {{ repository.full_name }}",
    ),
    (
        "delete",
        "{{ sender.login }} deleted {{ ref_type }} {{ ref }} in {{ repository.full_name }}",
    ),
    (
        "fork",
        "{{ sender.login }} forked {{ repository.full_name }} to {{ forkee.full_name }}",
    ),
    (
        "star.*",
        "{{ sender.login }} {{ 'starred' if action == 'created' else 'no longer stars' }} \
         {{ repository.full_name }}",
    ),
    (
        "ping",
        "GitHub sends events of {{ repository.full_name or organization.login or 'this hook' }} to \
         {{ source }}",
    ),
    (
        "default",
        "{{ source }} {{ event }}{% if repository %} in {{ repository.full_name }}{% endif %}\
         {% if sender %} by {{ sender.login }}{% endif %}",
    ),
];

pub const GITEA: Defaults = &[
    (
        "push",
        "{% set many = total_commits or commits|length %}\
         {% set name = pusher.login or pusher.username or pusher.full_name or sender.login %}\
         {% if not (name and ref and repository.full_name) %}{{ source }} push\
         {% if repository.full_name %} to {{ repository.full_name }}{% endif %}\
         {% if name %} by {{ name }}{% endif %}\
         {% elif not many %}{{ name }} pushed {{ ref|branch }} to {{ repository.full_name }}\
         {% else %}{{ name }} pushed {{ many }} commit{{ 's' if many != 1 }} to \
         {{ repository.full_name }}\
         {% if ref|branch != repository.default_branch %} ({{ ref|branch }}){% endif %}\
         {% if head_commit.message or commits[0].message %}: \
         {{ (head_commit.message or commits[0].message)|lines|first|truncate(200) }}{% endif %}\
         {% endif %}",
    ),
    (
        "pull_request*",
        "{{ sender.login }} {{ 'merged' if action == 'closed' and pull_request.merged \
         else action|replace('_', ' ') }} pull request #{{ number or pull_request.number }} in \
         {{ repository.full_name }}: {{ pull_request.title|truncate(200) }}\n\
         {{ pull_request.html_url }}",
    ),
    ISSUE,
    ISSUE_COMMENT,
    (
        "release.*",
        "{{ sender.login }} {{ action }} release {{ release.name or release.tag_name }} of \
         {{ repository.full_name }}\n{{ release.html_url or release.url }}",
    ),
    (
        "create",
        "{{ sender.login }} created {{ ref_type }} {{ ref }} in {{ repository.full_name }}",
    ),
    (
        "delete",
        "{{ sender.login }} deleted {{ ref_type }} {{ ref }} in {{ repository.full_name }}",
    ),
    (
        "fork",
        "{{ sender.login }} forked {{ forkee.full_name }} to {{ repository.full_name }}",
    ),
    (
        "default",
        "{{ source }} {{ event }}{% if repository %} in {{ repository.full_name }}{% endif %}\
         {% if sender %} by {{ sender.login }}{% endif %}",
    ),
];

const GITLAB_ISSUE: &str = "{% set past = {'open': 'opened', 'close': 'closed', 'reopen': 'reopened', \
     'update': 'updated'} %}\
     {{ user.name }} {{ past[object_attributes.action] or object_attributes.action or 'updated' }} \
     {{ 'confidential ' if event is startingwith 'confidential_' }}issue #{{ object_attributes.iid }} in {{ project.path_with_namespace }}: \
     {{ object_attributes.title|truncate(200) }}\n{{ object_attributes.url }}";

const GITLAB_NOTE: &str = "{{ user.name }} commented {{ '(confidential) ' if event is startingwith 'confidential_' }}in {{ project.path_with_namespace }}\
     {% if merge_request %} on !{{ merge_request.iid }}\
     {% elif issue %} on #{{ issue.iid }}{% endif %}: \
     {{ object_attributes.note|lines|first|truncate(200) }}\n{{ object_attributes.url }}";

pub const GITLAB: Defaults = &[
    (
        "push",
        "{% set many = total_commits_count %}{% set last = commits|last %}\
         {% if not (user_name and ref and project.path_with_namespace) %}{{ source }} push\
         {% if project.path_with_namespace %} to {{ project.path_with_namespace }}{% endif %}\
         {% if user_name %} by {{ user_name }}{% endif %}\
         {% elif not checkout_sha and not many %}{{ user_name }} deleted {{ ref|branch }} in \
         {{ project.path_with_namespace }}\
         {% elif not many %}{{ user_name }} pushed {{ ref|branch }} to \
         {{ project.path_with_namespace }}\
         {% else %}{{ user_name }} pushed {{ many }} commit{{ 's' if many != 1 }} to \
         {{ project.path_with_namespace }}\
         {% if ref|branch != project.default_branch %} ({{ ref|branch }}){% endif %}\
         {% if last.message %}: {{ last.message|lines|first|truncate(200) }}{% endif %}{% endif %}",
    ),
    (
        "tag_push",
        "{{ user_name }} {{ 'pushed' if checkout_sha else 'deleted' }} tag {{ ref|branch }} in \
         {{ project.path_with_namespace }}",
    ),
    (
        "merge_request.*",
        "{% set past = {'open': 'opened', 'close': 'closed', 'reopen': 'reopened', \
         'update': 'updated', 'merge': 'merged'} %}\
         {{ user.name }} {{ past[object_attributes.action] or object_attributes.action or 'updated' }} \
         merge request !{{ object_attributes.iid }} in {{ project.path_with_namespace }}: \
         {{ object_attributes.title|truncate(200) }}\n{{ object_attributes.url }}",
    ),
    ("issue.*", GITLAB_ISSUE),
    ("confidential_issue.*", GITLAB_ISSUE),
    ("note.*", GITLAB_NOTE),
    ("confidential_note.*", GITLAB_NOTE),
    (
        "pipeline.*",
        "Pipeline #{{ object_attributes.id }} {{ object_attributes.status|replace('_', ' ') }} on \
         {{ object_attributes.ref }} in {{ project.path_with_namespace }}\
         {% if object_attributes.duration %} after {{ object_attributes.duration }} s{% endif %}\n\
         {{ object_attributes.url }}",
    ),
    (
        "build.*",
        "Job {{ build_name }} {{ build_status|replace('_', ' ') }} on {{ ref }} in \
         {{ project.path_with_namespace or project_name }}",
    ),
    (
        "deployment*",
        "Deployment to {{ environment }} of {{ project.path_with_namespace }}: {{ status }}\n\
         {{ deployable_url }}",
    ),
    (
        "release.*",
        "Release {{ name or tag }} of {{ project.path_with_namespace }}: {{ action }}d\n{{ url }}",
    ),
    (
        "wiki_page.*",
        "{{ user.name }} changed the wiki of {{ project.path_with_namespace }} \
         ({{ object_attributes.action }}): {{ object_attributes.title|truncate(200) }}\n\
         {{ object_attributes.url }}",
    ),
    (
        "default",
        "{{ source }} {{ event }}{% if project %} in {{ project.path_with_namespace }}{% endif %}\
         {% if user_name or user %} by {{ user_name or user.name }}{% endif %}",
    ),
];

pub const BITBUCKET: Defaults = &[
    (
        "repo:push",
        "{% set change = push.changes|first %}\
         {% if not (actor.display_name and repository.full_name and (change.new.name or change.old.name)) %}\
         {{ source }} push{% if repository.full_name %} to {{ repository.full_name }}{% endif %}\
         {% if actor.display_name %} by {{ actor.display_name }}{% endif %}\
         {% elif change.new %}{{ actor.display_name }} pushed {{ change.new.name }} to \
         {{ repository.full_name }}\
         {% if change.new.target.message %}: \
         {{ change.new.target.message|lines|first|truncate(200) }}{% endif %}\
         {% else %}{{ actor.display_name }} deleted {{ change.old.name }} in \
         {{ repository.full_name }}{% endif %}",
    ),
    (
        "pullrequest:comment_created",
        "{{ actor.display_name }} commented on pull request #{{ pullrequest.id }} in \
         {{ repository.full_name }}: {{ comment.content.raw|lines|first|truncate(200) }}\n\
         {{ comment.links.html.href }}",
    ),
    (
        "pullrequest:*",
        "{% set past = {'fulfilled': 'merged', 'rejected': 'declined'} %}\
         {% set word = event|replace('pullrequest:', '') %}\
         {{ actor.display_name }} {{ past[word] or word|replace('_', ' ') }} pull request \
         #{{ pullrequest.id }} in {{ repository.full_name }}: {{ pullrequest.title|truncate(200) }}\n\
         {{ pullrequest.links.html.href }}",
    ),
    (
        "issue:comment_created",
        "{{ actor.display_name }} commented on issue #{{ issue.id }} in {{ repository.full_name }}: \
         {{ comment.content.raw|lines|first|truncate(200) }}\n{{ comment.links.html.href }}",
    ),
    (
        "issue:*",
        "{{ actor.display_name }} {{ event|replace('issue:', '') }} issue #{{ issue.id }} in \
         {{ repository.full_name }}: {{ issue.title|truncate(200) }}\n{{ issue.links.html.href }}",
    ),
    (
        "repo:commit_status_*",
        "{{ commit_status.name or commit_status.key }} {{ commit_status.state|lower }} in \
         {{ repository.full_name }}\n{{ commit_status.url }}",
    ),
    // Data Center names its events and members in another way.
    (
        "repo:refs_changed",
        "{% set change = changes|first %}{% set more = changes|length - 1 %}\
         {{ actor.displayName or actor.name }} \
         {{ {'ADD': 'created', 'DELETE': 'deleted'}[change.type] or 'pushed' }} \
         {{ change.ref.displayId or change.refId|branch }} \
         {{ 'in' if change.type in ['ADD', 'DELETE'] else 'to' }} \
         {{ repository.project.key }}/{{ repository.slug }}\
         {% if toCommit.message %}: {{ toCommit.message|lines|first|truncate(200) }}{% endif %}\
         {% if more > 0 %} and {{ more }} more reference{{ 's' if more != 1 }}{% endif %}",
    ),
    (
        "pr:comment:*",
        "{{ actor.displayName or actor.name }} {{ {'pr:comment:edited': 'edited a comment', \
         'pr:comment:deleted': 'deleted a comment'}[event] or 'commented' }} on pull request \
         #{{ pullRequest.id }} in {{ pullRequest.toRef.repository.project.key }}/\
         {{ pullRequest.toRef.repository.slug }}: {{ comment.text|lines|first|truncate(200) }}",
    ),
    (
        "pr:*",
        "{% set past = {'pr:from_ref_updated': 'pushed to', 'pr:modified': 'edited', \
         'pr:reviewer:updated': 'changed the reviewers of', 'pr:reviewer:approved': 'approved', \
         'pr:reviewer:unapproved': 'withdrew the approval of', \
         'pr:reviewer:needs_work': 'asked for changes to'} %}\
         {{ actor.displayName or actor.name }} \
         {{ past[event] or event|replace('pr:', '')|replace('_', ' ') }} pull request \
         #{{ pullRequest.id }} in {{ pullRequest.toRef.repository.project.key }}/\
         {{ pullRequest.toRef.repository.slug }}: {{ pullRequest.title|truncate(200) }}\n\
         {{ pullRequest.links.self[0].href }}",
    ),
    ("diagnostics:ping", "Bitbucket tests {{ source }}"),
    (
        "default",
        "{{ source }} {{ event }}\
         {% if repository.full_name %} in {{ repository.full_name }}\
         {% elif repository.slug %} in {{ repository.project.key }}/{{ repository.slug }}{% endif %}\
         {% if actor %} by {{ actor.display_name or actor.displayName }}{% endif %}",
    ),
];
