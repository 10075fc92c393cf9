//! Lists that come in pages, with a bound on how many and how long.

use super::{
    CloudError,
    lenient::Object,
    transport::{Call, Transport},
};
use serde_json::Value;

/// Every page, in order, as objects.
pub(super) async fn pages(transport: &Transport, call: &mut Call<'_>) -> Result<Vec<Value>, CloudError> {
    let (mut pages, mut seen, mut bytes) = (Vec::new(), Vec::new(), 0);
    loop {
        let body = transport.bytes(call).await?;
        bytes += body.len();
        if bytes > BYTES_MAX {
            return Err(CloudError::TooLong { server: transport.server().clone(), limit: BYTES_MAX, is_change: false });
        }
        let page = transport.parse(&body, call)?;
        let Some(object) = Object::of(&page) else {
            return Err(transport.malformed(call, "no object where one was due"));
        };
        let next = object.object("pagination").and_then(|pagination| pagination.text("next_page"));
        pages.push(page);
        let Some(next) = next else { return Ok(pages) };
        if pages.len() == PAGES_MAX || seen.contains(&next) {
            return Err(transport.malformed(call, "a list that does not end"));
        }
        call.query.retain(|(key, _)| *key != PAGE);
        call.query.push((PAGE, next.clone()));
        seen.push(next);
    }
}

/// The entries of a list of this name on all pages; each must be readable.
pub(super) fn entries<T>(
    transport: &Transport,
    call: &Call<'_>,
    (pages, key): (&[Value], &str),
    read: impl Fn(Object<'_>) -> Option<T>,
) -> Result<Vec<T>, CloudError> {
    let all = pages.iter().filter_map(Object::of).flat_map(|page| page.list(key));
    let unreadable = || transport.malformed(call, &format!("an entry of \"{key}\" without what names it"));
    all.map(|entry| Object::of(entry).and_then(&read).ok_or_else(unreadable)).collect()
}

const PAGE: &str = "pagination.page";
/// Each holds up to a few hundred entries.
const PAGES_MAX: usize = 50;
/// Of all pages; JSON takes a multiple of it in memory.
const BYTES_MAX: usize = 8 << 20;
