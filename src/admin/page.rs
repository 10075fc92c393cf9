//! The page at `/`: one file that shows what `/status` says. The browser is told to run and fetch nothing but
//! what is in it, and to make no markup of any text.

use super::{Answer, answer};
use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, engine::general_purpose::STANDARD};
use hyper::{
    StatusCode,
    header::{CONTENT_SECURITY_POLICY, HeaderValue, REFERRER_POLICY},
};

/// The page, and what it may do.
pub(super) fn page() -> Answer {
    let mut page = answer(StatusCode::OK, "text/html; charset=utf-8", PAGE);
    // A policy that is no header would be a page without one; the policy that allows nothing always is.
    let policy = HeaderValue::from_str(&policy(PAGE)).unwrap_or(HeaderValue::from_static("default-src 'none'"));
    page.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    page.headers_mut().insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    page
}

/// Hashes are made of what is served, so they cannot be of another version.
fn policy(page: &str) -> String {
    let script = source(page, "script");
    let style = source(page, "style");
    format!(
        "default-src 'none'; script-src {script}; style-src {style}; img-src data:; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )
}

/// The hash of the element's text, of which there is one; or nothing at all is allowed.
fn source(page: &str, element: &str) -> String {
    let text = page.split_once(&format!("<{element}>")).and_then(|(_, rest)| rest.split_once(&format!("</{element}>")));
    text.map_or_else(
        || "'none'".to_owned(),
        |(text, _)| format!("'sha256-{}'", STANDARD.encode(digest(&SHA256, text.as_bytes()))),
    )
}

const PAGE: &str = include_str!("page.html");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_names_the_only_script_and_style_by_their_hashes() {
        for element in ["script", "style"] {
            assert_eq!(PAGE.matches(&format!("<{element}")).count(), 1, "{element}");
            assert!(source(PAGE, element).starts_with("'sha256-"), "{element}");
        }
        // The hash of the empty text, which is known.
        let empty = policy("<style></style>");
        assert!(empty.contains("style-src 'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"), "{empty}");
        assert!(empty.contains("script-src 'none'"), "{empty}");
    }

    #[test]
    fn the_page_is_small_and_needs_nothing_from_elsewhere() {
        assert!(PAGE.len() < 60_000, "{} bytes", PAGE.len());
        let elsewhere = ["src=", "@import", "url(", "http://", "https://", " style=", " onclick=", "innerHTML"];
        // What names a kind of document is no address.
        let text = PAGE.replace("http://www.w3.org/2000/svg", "");
        for word in elsewhere {
            assert!(!text.contains(word), "{word}");
        }
    }
}
