//! Lists that come in pages, with a bound on how many.

use super::{
    CloudError,
    lenient::Object,
    transport::{Call, Transport},
};
use serde_json::Value;

/// Every page, in order, as objects.
pub(super) async fn pages(transport: &Transport, mut call: Call<'_>) -> Result<Vec<Value>, CloudError> {
    let malformed = |fault: &str| CloudError::Malformed { server: transport.server().clone(), fault: fault.to_owned() };
    let mut pages = Vec::new();
    let mut seen = Vec::new();
    loop {
        let page = transport.json(&call).await?;
        let Some(object) = Object::of(&page) else { return Err(malformed("no object where one was due")) };
        let next = object.object("pagination").and_then(|pagination| pagination.text("next_page"));
        pages.push(page);
        let Some(next) = next else { return Ok(pages) };
        if pages.len() == PAGES_MAX || seen.contains(&next) {
            return Err(malformed("a list that does not end"));
        }
        call.query.retain(|(key, _)| *key != PAGE);
        call.query.push((PAGE, next.clone()));
        seen.push(next);
    }
}

/// The entries of a list of this name on all pages; each must be readable.
pub(super) fn entries<T>(
    transport: &Transport,
    pages: &[Value],
    key: &str,
    read: impl Fn(Object<'_>) -> Option<T>,
) -> Result<Vec<T>, CloudError> {
    let all = pages.iter().filter_map(Object::of).flat_map(|page| page.list(key));
    let unreadable = || CloudError::Malformed {
        server: transport.server().clone(),
        fault: format!("an entry of \"{key}\" without what names it"),
    };
    all.map(|entry| Object::of(entry).and_then(&read).ok_or_else(unreadable)).collect()
}

const PAGE: &str = "pagination.page";
/// Each holds up to a few hundred entries.
const PAGES_MAX: usize = 50;
