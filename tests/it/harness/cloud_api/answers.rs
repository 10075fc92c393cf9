//! What the API says to a request, from its state.

use super::{Asked, Role, State};
use serde_json::{Value, json};

/// A whole answer.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
    /// Lines of the head, each with its end.
    pub(super) header: String,
}

impl Answer {
    pub(super) fn text(&self, date: Option<&str>) -> String {
        let date = date.map_or(String::new(), |date| format!("Date: {date}\r\n"));
        let Self { status, body, header } = self;
        let length = body.len();
        format!(
            "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\
             {date}{header}\r\n{body}"
        )
    }
}

/// An error as the API writes it.
pub(super) fn refusal(status: u16, message: &str) -> Answer {
    // The codes of gRPC.
    let code = match status {
        400 => 3,
        401 => 16,
        403 => 7,
        404 => 5,
        409 => 6,
        429 => 8,
        _ => 13,
    };
    let body = json!({"code": code, "message": message, "details": []});
    Answer { status, body: body.to_string(), header: String::new() }
}

fn good(body: &Value) -> Answer {
    Answer { status: 200, body: body.to_string(), header: String::new() }
}

pub(super) fn answer(state: &mut State, asked: &Asked) -> Answer {
    let (path, query) = asked.target.split_once('?').unwrap_or((&asked.target, ""));
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    if let ["clusters", id, "cert"] = parts[..] {
        let is_known = state.clusters.iter().any(|cluster| cluster["id"] == id);
        return if is_known {
            Answer { status: 200, body: state.ca.clone(), header: String::new() }
        } else {
            refusal(404, "cluster not found")
        };
    }
    let ["api", "v1", ref parts @ ..] = parts[..] else { return refusal(404, "page not found") };
    let key = asked.headers.get("authorization").and_then(|text| text.strip_prefix("Bearer "));
    let Some(role) = key.and_then(|key| state.keys.get(key)).copied() else {
        return refusal(401, "invalid API key");
    };
    match needed(&asked.method, parts) {
        None => refusal(404, "page not found"),
        Some(needed) if role < needed => refusal(403, "unauthorized"),
        Some(_) => allowed(state, asked, parts, query),
    }
}

/// The least role for it.
fn needed(method: &str, parts: &[&str]) -> Option<Role> {
    Some(match (method, parts) {
        ("GET", ["clusters"] | ["clusters", _] | ["clusters", _, "connection-string" | "nodes"]) => Role::Monitor,
        ("GET", ["clusters", _, "sql-users" | "databases"] | ["clusters", _, "networking", "allowlist"]) => {
            Role::Developer
        }
        ("POST", ["clusters", _, "networking", "allowlist"]) => Role::Operator,
        ("DELETE", ["clusters", _, "networking", "allowlist", _, _]) => Role::Operator,
        ("GET", ["clusters", _, "networking", "private-endpoint-services"]) => Role::Operator,
        ("GET" | "POST", ["clusters", _, "networking", "private-endpoint-connections"]) => Role::Operator,
        _ => return None,
    })
}

fn allowed(state: &mut State, asked: &Asked, parts: &[&str], query: &str) -> Answer {
    let Some(id) = parts.get(1) else { return page(state, "clusters", state.clusters.clone(), query) };
    let Some(cluster) = state.clusters.iter().find(|cluster| cluster["id"] == **id).cloned() else {
        return refusal(404, "cluster not found");
    };
    match (asked.method.as_str(), &parts[2..]) {
        ("GET", []) => good(&cluster),
        ("GET", ["connection-string"]) => connection_string(&cluster, query),
        ("GET", ["nodes"]) => page(state, "nodes", state.nodes.clone(), query),
        ("GET", ["sql-users"]) => {
            let users = state.users.iter().map(|name| json!({"name": name})).collect();
            page(state, "users", users, query)
        }
        ("GET", ["databases"]) => {
            // 64 bits, so text.
            let table = |(name, count): &(String, u64)| json!({"name": name, "table_count": count.to_string()});
            page(state, "databases", state.databases.iter().map(table).collect(), query)
        }
        ("GET", ["networking", "allowlist"]) => page(state, "allowlist", state.allowlist.clone(), query),
        ("POST", ["networking", "allowlist"]) => allow(state, asked),
        ("DELETE", ["networking", "allowlist", address, mask]) => disallow(state, address, mask),
        ("GET", ["networking", "private-endpoint-services"]) => page(state, "services", state.services.clone(), query),
        ("GET", _) => page(state, "connections", state.connections.clone(), query),
        _ => connect(state, asked, &cluster),
    }
}

fn page(state: &State, key: &str, entries: Vec<Value>, query: &str) -> Answer {
    let start: usize = parameter(query, "pagination.page").map_or(0, |page| page.parse().unwrap());
    let size = if state.page_size == 0 { entries.len() } else { state.page_size };
    let has_more = start + size < entries.len();
    let next = if has_more { json!((start + size).to_string()) } else { json!("") };
    let pagination = if state.page_size == 0 { Value::Null } else { json!({"next_page": next, "previous_page": null}) };
    let entries: Vec<_> = entries.into_iter().skip(start).take(size).collect();
    let mut body = json!({key: entries, "pagination": pagination, "something_new": {"a": [1]}});
    if key == "allowlist" {
        body["propagating"] = json!(state.propagating);
    }
    good(&body)
}

fn connection_string(cluster: &Value, query: &str) -> Answer {
    let host = cluster["regions"][0]["sql_dns"].as_str().unwrap();
    let database = parameter(query, "database").unwrap_or("defaultdb");
    let user = parameter(query, "sql_user").unwrap_or("");
    let text = format!("postgresql://{user}@{host}:26257/{database}?sslmode=verify-full");
    let params = json!({"Database": database, "Host": host, "Port": "26257", "Username": user});
    good(&json!({"connection_string": text, "params": params}))
}

fn allow(state: &mut State, asked: &Asked) -> Answer {
    let entry: Value = serde_json::from_str(&asked.body).unwrap();
    let is_same = |known: &&Value| known["cidr_ip"] == entry["cidr_ip"] && known["cidr_mask"] == entry["cidr_mask"];
    if state.allowlist.iter().any(|known| is_same(&known)) {
        return refusal(409, "entry exists");
    }
    state.allowlist.push(entry.clone());
    state.propagating = true;
    good(&entry)
}

fn disallow(state: &mut State, address: &str, mask: &str) -> Answer {
    let mask: u64 = mask.parse().unwrap();
    let is_meant = |entry: &Value| entry["cidr_ip"] == address && entry["cidr_mask"] == mask;
    let Some(place) = state.allowlist.iter().position(is_meant) else { return refusal(404, "no such entry") };
    state.propagating = true;
    good(&state.allowlist.remove(place))
}

fn connect(state: &mut State, asked: &Asked, cluster: &Value) -> Answer {
    let body: Value = serde_json::from_str(&asked.body).unwrap();
    let connection = json!({
        "endpoint_id": body["endpoint_id"], "endpoint_service_id": "svc", "service_name": "service",
        "cloud_provider": cluster["cloud_provider"], "region_name": cluster["regions"][0]["name"],
        "status": "STATUS_PENDING_ACCEPTANCE",
    });
    state.connections.push(connection.clone());
    good(&connection)
}

fn parameter<'q>(query: &'q str, key: &str) -> Option<&'q str> {
    query.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='))
}
