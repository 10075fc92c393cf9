//! Orders by hand: `POST /endpoints/NAME/disable|enable|prefer`. Owns what a request must look like and what
//! it is answered; who may send one is the guard's to say, and what an order does is the cluster's.

use super::{Admin, Answer, Peer, guard, json, text};
use crate::{
    control::{SPANS, Taken, USUAL_SPAN, Verb},
    diagnostics::rfc3339,
    metrics::labels::OrderByHand,
    settings::{Name, duration_from_text},
    upstream::{Cluster, Order},
};
use hyper::{Request, StatusCode, body::Body};
use std::{sync::Arc, time::Duration};
use tracing::{debug, info};

/// An endpoint's name, unchecked, and what to do with it.
pub(super) struct Asked<'a> {
    endpoint: &'a str,
    verb: Verb,
}

/// What a path asks for; `None` if it is not of these.
pub(super) fn asked(path: &str) -> Option<Asked<'_>> {
    let (endpoint, verb) = path.strip_prefix("/endpoints/")?.split_once('/')?;
    let verb = Verb::ALL.into_iter().find(|known| known.text() == verb)?;
    Some(Asked { endpoint, verb })
}

/// Carries out the order if whoever sent it may give one.
pub(super) async fn carry_out(admin: &Admin, asked: Asked<'_>, request: &Request<impl Body>, peer: &Peer) -> Answer {
    let taken = match guard::check_post(request, peer, (&admin.view().settings, &admin.peer_uids)).await {
        Ok(_) if request.body().size_hint().lower() > BODY_BYTES_MAX => {
            Err((StatusCode::PAYLOAD_TOO_LARGE, "an order has no body, and this one is too large".to_owned()))
        }
        Ok(uid) => take(&admin.view().clusters, &asked, request.uri().query().unwrap_or_default(), uid),
        Err(reason) => Err((StatusCode::FORBIDDEN, reason)),
    };
    match taken {
        Ok(taken) => {
            let mut accepted = json(&taken);
            *accepted.status_mut() = StatusCode::ACCEPTED;
            accepted
        }
        Err((status, reason)) => {
            debug!(order = asked.verb.text(), status = status.as_u16(), reason, "endpoint order refused");
            text(status, format!("{reason}\n"))
        }
    }
}

type Refused = (StatusCode, String);

fn take(clusters: &[Arc<Cluster>], asked: &Asked<'_>, query: &str, uid: Option<u32>) -> Result<Taken, Refused> {
    let (order, state) = match asked.verb {
        Verb::Disable => (Some(Order::Disabled), Order::Disabled.text()),
        Verb::Prefer => (Some(Order::Preferred), Order::Preferred.text()),
        Verb::Enable => (None, "enabled"),
    };
    let query = Query::read(query, asked.verb).map_err(|rule| (StatusCode::BAD_REQUEST, rule))?;
    let (cluster, endpoint) = find(clusters, asked.endpoint, query.cluster)?;
    let until = cluster.order(&endpoint, order, query.span).ok_or_else(|| unknown(clusters, query.cluster))?;
    let until = order.map(|_| rfc3339(until));
    info!(
        cluster.name = %cluster.name(),
        endpoint.name = %endpoint,
        order = state,
        until,
        peer.uid = uid,
        "endpoint ordered"
    );
    Ok(Taken { state: state.to_owned(), endpoint: endpoint.to_string(), cluster: cluster.name().to_string(), until })
}

/// What stands behind the question mark.
#[derive(Debug, PartialEq)]
struct Query<'a> {
    span: Duration,
    cluster: Option<&'a str>,
}

impl<'a> Query<'a> {
    /// An error is the rule, in words. Nothing is unescaped, since no good value needs it.
    fn read(text: &'a str, verb: Verb) -> Result<Self, String> {
        let (mut span, mut cluster) = (None, None);
        for part in text.split('&').filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            let place = match key {
                "for" if verb == Verb::Enable => return Err("enable ends an order at once and takes no \"for\"".into()),
                "for" => &mut span,
                "cluster" => &mut cluster,
                _ => return Err("behind the question mark stand \"for\" and \"cluster\" only".into()),
            };
            if place.replace(value).is_some() {
                return Err(format!("\"{key}\" is given twice"));
            }
        }
        let span = span.map(|span| duration_from_text(span, SPANS)).transpose();
        Ok(Self { span: span.map_err(|rule| format!("for {rule}"))?.unwrap_or(USUAL_SPAN), cluster })
    }
}

/// The one cluster that is meant, and the endpoint's name.
fn find<'c>(
    clusters: &'c [Arc<Cluster>],
    endpoint: &str,
    cluster: Option<&str>,
) -> Result<(&'c Arc<Cluster>, Name), Refused> {
    let mut found = Vec::new();
    for one in among(clusters, cluster) {
        let ways = one.ways();
        found.extend(ways.iter().filter(|way| way.name().as_str() == endpoint).map(|way| (one, way.name().clone())));
    }
    match found.as_slice() {
        [] => Err(unknown(clusters, cluster)),
        [(one, name)] => Ok((one, name.clone())),
        several => {
            let names = listed(several.iter().map(|(one, _)| one.name()));
            let reason = format!(
                "several clusters have an endpoint of this name: {names}; say which one: --cluster NAME, or cluster=NAME behind the question mark"
            );
            Err((StatusCode::CONFLICT, reason))
        }
    }
}

fn unknown(clusters: &[Arc<Cluster>], cluster: Option<&str>) -> Refused {
    let ways: Vec<_> = among(clusters, cluster).flat_map(|one| one.ways().to_vec()).collect();
    let reason = if ways.is_empty() {
        format!("there is no such cluster, but there are: {}", listed(clusters.iter().map(|one| one.name())))
    } else {
        format!("there is no such endpoint, but there are: {}", listed(ways.iter().map(|way| way.name())))
    };
    (StatusCode::NOT_FOUND, reason)
}

/// The cluster of this name, or all.
fn among<'c>(clusters: &'c [Arc<Cluster>], name: Option<&str>) -> impl Iterator<Item = &'c Arc<Cluster>> {
    clusters.iter().filter(move |one| name.is_none_or(|name| one.name().as_str() == name))
}

/// Each name once, in quotes.
fn listed<'n>(names: impl Iterator<Item = &'n Name>) -> String {
    let mut listed: Vec<String> = Vec::new();
    for name in names.map(|name| format!("\"{name}\"")) {
        if !listed.contains(&name) {
            listed.push(name);
        }
    }
    listed.join(", ")
}

/// An order as metrics label it.
pub(super) fn label(order: Order) -> OrderByHand {
    match order {
        Order::Disabled => OrderByHand::Disabled,
        Order::Preferred => OrderByHand::Preferred,
    }
}

/// Bodies are not read; a larger one is somebody's mistake.
const BODY_BYTES_MAX: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_says_endpoint_and_order() {
        let said = |path| asked(path).map(|asked| (asked.endpoint.to_owned(), asked.verb));

        assert_eq!(said("/endpoints/a/disable"), Some(("a".to_owned(), Verb::Disable)));
        assert_eq!(said("/endpoints/../prefer"), Some(("..".to_owned(), Verb::Prefer)));
        for path in
            ["/endpoints/a", "/endpoints/a/", "/endpoints/a/drop", "/endpoints/a/disable/", "/endpoint/a/disable"]
        {
            assert_eq!(said(path), None, "{path}");
        }
    }

    #[test]
    fn a_query_says_for_how_long_and_in_which_cluster() {
        let read = |text| Query::read(text, Verb::Disable);

        assert_eq!(read(""), Ok(Query { span: USUAL_SPAN, cluster: None }));
        assert_eq!(read("for=24h&cluster=c"), Ok(Query { span: *SPANS.end(), cluster: Some("c") }));
        for (text, rule) in [
            ("for=25h", "for must be from 1s to 24h"),
            ("for=0s", "for must be from 1s to 24h"),
            ("for=1", "for must be a whole number and a unit"),
            ("for", "for must be a whole number and a unit"),
            ("for=1h&for=2h", "\"for\" is given twice"),
            ("until=1h", "behind the question mark stand"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.starts_with(rule), "{text}: {error}");
        }
        assert!(Query::read("for=1h", Verb::Enable).is_err());
    }
}
