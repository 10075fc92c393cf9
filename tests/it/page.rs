//! The page at `/`: who may read it, and what it shows in a real browser.

mod scene;

pub(crate) use scene::Scene;

use crate::harness::{Browser, DEADLINE, FakeUpstream, SettingsFile, TestProxy, port::Port};
use rustix::process::Signal;
use scene::{HOSTILE, keep_busy};
use serde_json::{Value, json};
use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::Duration,
};

fn url(proxy: &TestProxy) -> String {
    format!("http://{}/", proxy.listener("admin"))
}

/// The text of the elements that a selector finds.
fn texts(browser: &mut Browser, selector: &str) -> Vec<String> {
    let found = browser.value(&format!("[...document.querySelectorAll({})].map(e => e.innerText)", json!(selector)));
    serde_json::from_value(found).unwrap()
}

#[test]
fn the_page_is_for_this_machine_and_tells_browsers_to_run_nothing_else() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).global("admin_hosts = [\"proxy.internal\"]").start();

    let (status, head, body) = proxy.http("GET /", "");
    assert_eq!(status, 200, "{body}");
    let head = head.to_ascii_lowercase();
    for line in [
        "content-type: text/html; charset=utf-8",
        "cache-control: no-store",
        "x-content-type-options: nosniff",
        "referrer-policy: no-referrer",
        "content-security-policy: default-src 'none'; script-src 'sha256-",
    ] {
        assert!(head.contains(&format!("\r\n{line}")), "{line} is not in {head}");
    }
    for piece in ["connect-src 'self'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"] {
        assert!(head.contains(piece), "{piece} is not in {head}");
    }
    assert!(!head.contains("unsafe-"), "{head}");
    assert!(body.contains("<noscript>") && body.contains("href=\"/status\"") && body.contains("href=\"/metrics\""));

    let (status, head, rest) = proxy.http("HEAD /", "");
    assert_eq!((status, rest.as_str()), (200, ""));
    assert!(head.to_ascii_lowercase().contains(&format!("content-length: {}", body.len())), "{head}");
    for host in ["localhost:9257", "127.0.0.1", "[::1]:9257", "proxy.internal"] {
        assert_eq!(proxy.http("GET /", &format!("Host: {host}\r\n")).0, 200, "{host}");
    }
    let (status, _, told) = proxy.http("GET /", "Host: evil.example\r\n");
    assert_eq!(status, 403);
    assert!(told.contains("admin_hosts") && !told.contains("<script"), "{told}");
}

#[test]
fn the_page_shows_ways_sessions_and_refusals_and_takes_no_text_for_markup() {
    let scene = Scene::set();
    let mut browser = scene.open();

    let names = texts(&mut browser, ".way b");
    assert_eq!(names, ["gcp-us-east1", "gcp-us-west2", "gcp-europe-west1", "standby"]);
    let states = texts(&mut browser, ".way .state");
    assert_eq!(states, ["well", "well", "down", "unknown"]);
    let far = texts(&mut browser, ".way .far");
    assert!(far[0].ends_with("ms") && far[1].ends_with("ms") && far[2] == "–", "{far:?}");
    let ways = texts(&mut browser, ".way");
    assert!(ways[0].contains("next for main: first in order") && ways[0].contains("3 sessions"), "{}", ways[0]);
    assert!(ways[1].contains("disabled by hand") && ways[1].contains("1 session"), "{}", ways[1]);
    assert!(ways[2].contains("refused"), "{}", ways[2]);
    browser.wait_until("document.querySelectorAll('#links path').length === 3"); // Drawn anew in the wider window.
    let links = browser.value("document.querySelectorAll('#links path.chosen').length");
    assert_eq!(links, 2, "main and nowhere to where they go, reports to where its session is");

    let said = &scene.proxy.status()["refusals"][0];
    let refusal = texts(&mut browser, ".refusal").concat();
    for field in ["sqlstate", "message", "hint"] {
        assert!(refusal.contains(said[field].as_str().unwrap()), "{field} is not in {refusal}");
    }
    assert!(refusal.contains("3 times") && refusal.contains("at nowhere"), "{refusal}");

    let names = texts(&mut browser, "#sessions [data-label=application]");
    assert!(names.contains(&HOSTILE.to_owned()), "{names:?}");
    assert_eq!(browser.value("document.querySelectorAll('img, td script').length"), 0);
    assert_eq!(browser.value("typeof taken + document.title"), "undefinedcrdb-proxy: 4 sessions");
    let expiry = texts(&mut browser, "#expiry tr").join("\n");
    for what in ["CA of test", "Client certificate of test", "Server certificate at gcp-us-east1", "app.pw"] {
        assert!(expiry.contains(what), "{what} is not in {expiry}");
    }
    let listeners = texts(&mut browser, "#listeners tbody th");
    assert_eq!(listeners, ["main", "reports", "nowhere"]);
}

#[test]
fn the_page_asks_only_its_own_daemon_and_nothing_else_can_run_in_it() {
    let scene = Scene::set();
    let mut browser = scene.open();
    browser.wait_until("points.length > 1");

    assert_eq!(browser.complaints(), Vec::<String>::new());
    let requests = browser.requests();
    assert!(requests.len() >= 3, "{requests:?}");
    for request in &requests {
        assert!(request.starts_with(&url(&scene.proxy)) || request.starts_with("data:"), "{request}");
    }

    let tried = "(async () => {
        const told = [], attempt = run => { try { run(); } catch (error) { told.push(error.name); } };
        document.addEventListener('securitypolicyviolation', event => told.push(event.effectiveDirective));
        const script = document.createElement('script');
        attempt(() => { script.append('window.ran = 1'); document.head.append(script); });
        attempt(() => { document.body.innerHTML = '<b>markup</b>'; });
        attempt(() => { document.querySelector('h1').setAttribute('onclick', 'window.ran = 1'); document.querySelector('h1').click(); });
        attempt(() => { new Image().src = 'http://127.0.0.1:1/'; });
        await fetch('http://127.0.0.1:1/').catch(() => {});
        await new Promise(done => requestAnimationFrame(() => setTimeout(done)));
        return [typeof window.ran, told.includes('TypeError'), told.includes('img-src'), told.includes('connect-src')];
    })()";
    assert_eq!(browser.value(tried), json!(["undefined", true, true, true]));
}

#[test]
fn the_page_is_legible_at_any_width_in_light_and_in_the_dark() {
    let scene = Scene::set();
    let mut browser = scene.open();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| keep_busy(&scene.proxy, &stop));
        browser.pass(Duration::from_secs(290));
        stop.store(true, Relaxed);
    });
    let pointed = "(() => {
        const plot = document.querySelector('.plot'), told = () => CHARTS.map(chart => chart.when.textContent);
        const point = kind => plot.dispatchEvent(new PointerEvent(kind, { clientX: plot.getBoundingClientRect().left + 90 }));
        point('pointermove'); const over = told();
        point('pointerleave');
        return [over.every(time => /^..:..:.. UTC$/.test(time) && time === over[0]), told().join('')];
    })()";
    assert_eq!(browser.value(pointed), json!([true, ""]), "a place in one chart is a time in all");
    let mut grounds = Vec::new();
    for (name, width, scheme) in [
        ("desktop-light", 1280, "light"),
        ("desktop-dark", 1280, "dark"),
        ("tablet", 800, "light"),
        ("phone", 360, "dark"),
        ("phone-light", 360, "light"),
    ] {
        browser.show(width, 900, scheme);

        let overflow = browser.value("document.documentElement.scrollWidth - innerWidth");
        assert_eq!(overflow, 0, "{name} scrolls sideways");
        let faint = browser.value(FAINT);
        assert_eq!(faint, json!([]), "{name}: too little contrast");
        grounds.push(browser.value("getComputedStyle(document.body).backgroundColor"));
        browser.picture(name);
    }
    assert_ne!(grounds[0], grounds[1]);
    // Whoever uses no mouse reaches what can be used.
    let reached =
        browser.value("[...document.querySelectorAll('button, a')].every(e => e.tabIndex === 0 && e.innerText.trim())");
    assert_eq!(reached, true);
}

#[test]
fn the_page_goes_on_by_itself_when_the_daemon_is_back() {
    let cluster = FakeUpstream::answering();
    let port = Port::reserve();
    let settings = || SettingsFile::of(&cluster).global(&format!("admin = \"{}\"", port.address()));
    let mut proxy = settings().start();
    for _ in 0..5 {
        proxy.client().query("select 1");
    }
    proxy.wait_for_metric("crdb_proxy_statements_total", &[("listener", "main")], 5.0);
    let mut browser = Browser::open(&url(&proxy));
    browser.wait_until("points.length > 1");
    assert_eq!(proxy.terminate(), 0);

    browser.wait_until("document.querySelector('#notices').innerText.includes('Not reachable since')");
    assert_eq!(browser.value("document.body.classList.contains('lost')"), true);
    assert_eq!(texts(&mut browser, "#from b"), ["main"], "what was known stays");
    browser.show(1280, 900, "light");
    browser.picture("not-reachable");
    let before = browser.value("points.length").as_u64().unwrap();

    let _proxy = settings().start();
    browser.wait_until("!document.body.classList.contains('lost') && points.at(-1).statements != null");

    assert!(browser.value("points.length").as_u64().unwrap() > before, "what was drawn stays");
    assert_eq!(browser.value("[restarts.length, $('notices').childElementCount]"), json!([1, 0]));
    let negative = "points.some(point => [point.statements, point.up, point.down].some(rate => rate < 0))";
    assert_eq!(browser.value(negative), false);
    let runs = browser.value("document.querySelector('.line').getAttribute('d').split('M').length - 1");
    assert_eq!(runs, 2, "a gap where nothing was known");
}

#[test]
fn the_page_waits_for_no_daemon_for_long() {
    let cluster = FakeUpstream::answering();
    let proxy = TestProxy::before(&cluster);
    let mut browser = Browser::open(&url(&proxy));
    browser.wait_until("points.length > 0");
    proxy.signal(Signal::STOP);

    browser.wait_until("$('notices').innerText.includes('Nothing answered within five seconds')");
    proxy.signal(Signal::CONT);

    browser.wait_until("!document.body.classList.contains('lost')");
}

#[test]
fn the_page_asks_once_at_a_time_and_less_often_while_nobody_looks() {
    let cluster = FakeUpstream::answering();
    let proxy = TestProxy::before(&cluster);
    let mut browser = Browser::open(&url(&proxy));
    browser.wait_until("points.length > 0");

    // Each turn is asked for twice; how often it asks, and how long it then waits.
    let turns = "(async () => {
        const found = [], timer = window.setTimeout, real = fetchStatus;
        for (const hidden of [false, true]) {
            let asked = 0, wait = 0;
            Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });
            window.setTimeout = (run, span) => { wait = span; return timer(run, span); };
            fetchStatus = () => { asked++; return real(); };
            await Promise.all([turn(), turn()]);
            found.push(asked, wait);
        }
        return found;
    })()";
    assert_eq!(browser.value(turns), json!([1, 2000, 1, 15000]));
}

#[test]
fn what_is_wrong_with_the_settings_stands_at_the_top() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).start();
    let file = proxy.path("crdb-proxy.toml");
    let text = fs::read_to_string(&file).unwrap();
    let mut browser = Browser::open(&url(&proxy));
    browser.wait_until("$('state').innerText === 'running' && $('ready').innerText === 'ready'");

    fs::write(&file, format!("threads = 3\n{text}")).unwrap();
    assert_eq!(proxy.http("POST /reload", "").0, 202);
    fs::write(&file, format!("nonsense = 3\n{text}")).unwrap();
    assert_eq!(proxy.http("POST /reload", "").0, 422);

    browser.wait_until("$('notices').childElementCount === 2");
    let notices = texts(&mut browser, ".notice");
    assert!(notices[0].contains("nonsense"), "{notices:?}");
    assert!(notices[1].contains("Needs a restart") && notices[1].contains("threads"), "{notices:?}");
}

#[test]
fn a_secret_that_cannot_be_read_is_told_until_it_can() {
    let cluster = FakeUpstream::answering();
    // A session that finds an upstream ready reads no secret, and who watches files would tell of it, too.
    let proxy = SettingsFile::of(&cluster).global("warm_max = 0").global("watch_settings = false").start();
    proxy.client();
    let mut browser = Browser::open(&url(&proxy));
    browser.wait_until("$('expiry').innerText.includes('app.pw')");
    let (secret, away) = (proxy.path("app.pw"), proxy.path("away"));

    fs::rename(&secret, &away).unwrap();
    proxy.client();

    // Beside it stands that the files are wrong, once the daemon has looked at them.
    browser.wait_until("$('notices').innerText.includes('The secret of test cannot be read')");
    let notice = texts(&mut browser, ".notice").concat();
    assert!(notice.contains("The secret of test cannot be read; the last one stays in use"), "{notice}");
    assert!(notice.contains("app.pw does not exist"), "{notice}");
    browser.wait_until("$('expiry').innerText.includes('cannot be read')");

    fs::rename(&away, &secret).unwrap();
    proxy.client();

    browser.wait_until("$('notices').childElementCount === 0 && $('expiry').innerText.includes('app.pw')");
    assert_eq!(browser.value("$('expiry').querySelectorAll('.down').length"), 0);
}

#[test]
fn what_expires_is_long_or_left_out_is_told_in_words() {
    let cluster = FakeUpstream::answering();
    let proxy = TestProxy::before(&cluster);
    let _client = proxy.client();
    let mut browser = Browser::open(&url(&proxy));
    browser.wait_until("points.length > 0");

    // What a daemon says in other circumstances.
    let other = "(async () => {
        const real = await fetchStatus(), day = n => new Date(Date.parse(real.now) + n * 86400000 + 60000).toISOString();
        real.version = '9.9.9'; real.state = 'draining'; real.ready = false; real.reasons = ['draining: no new sessions are taken'];
        real.clusters[0].endpoints[0].certificate_not_after = '4096-01-01T00:00:00.000Z';
        real.clusters[0].ca.not_after = day(-2); real.clusters[0].certificate = { not_after: day(20) };
        const session = real.sessions[0];
        real.sessions = [...Array(150).keys()].map(i => ({ ...session, id: i + 1, statements: i, state: i % 3 ? 'idle' : 'transaction', application_name: 'a\\u202eb' }));
        real.sessions_left_out = 7;
        fetchStatus = async () => real;
        await ask();
    })()";
    browser.value(other);

    let notices = texts(&mut browser, ".notice").join("\n");
    for piece in [
        "the daemon is 9.9.9 now",
        "draining: no new sessions",
        "CA of test: expired",
        "Client certificate of test: expires in 20 days",
    ] {
        assert!(notices.contains(piece), "{piece} is not in {notices}");
    }
    assert_eq!(notices.matches("expire").count(), 2, "each is told once in {notices}");
    let expiry = texts(&mut browser, "#expiry tr").join("\n");
    assert!(expiry.contains("does not expire soon") && !expiry.contains("2,0"), "{expiry}");
    assert!(texts(&mut browser, "#fresh-text")[0].ends_with(" UTC"));
    assert_eq!(texts(&mut browser, "#state"), ["draining"]);
    assert_eq!(texts(&mut browser, "#sessions-note"), ["157 open"]);
    let rest = texts(&mut browser, "#sessions .rest").concat();
    assert!(rest.contains("show 50 more of 150") && rest.contains("7 sessions left out"), "{rest}");
    assert_eq!(texts(&mut browser, "#sessions [data-label=application]")[0], "a\\u{202e}b");
    browser.value("document.querySelector('#sessions .rest button').click()");
    assert_eq!(texts(&mut browser, "#sessions tbody tr").len(), 150);
    browser.value("$('chips').children[2].click()");
    assert_eq!(texts(&mut browser, "#sessions tbody tr").len(), 50, "those in a transaction");
    browser.value("document.querySelector('#sessions th:nth-child(9) button').click()");
    assert_eq!(texts(&mut browser, "#sessions tbody th")[0], "148", "the most statements first");
    let sorted = browser.value("document.querySelector('#sessions th:nth-child(9)').getAttribute('aria-sort')");
    assert_eq!(sorted, "descending");
}

#[test]
fn where_there_is_room_no_name_is_broken_and_no_table_scrolls() {
    let cluster = FakeUpstream::answering();
    let proxy = TestProxy::before(&cluster);
    let _client = proxy.client();
    let mut browser = Browser::open(&url(&proxy));
    browser.wait_until("points.length > 0");
    browser.show(1280, 900, "light");

    let busy = "(async () => {
        const real = await fetchStatus(), [one] = real.listeners, name = 'gcp-europe-west1-public';
        Object.assign(one, { name: 'listener-1', endpoint: name, cluster: 'demo', addresses: ['127.0.0.1:26257', '[::1]:26257'] });
        Object.assign(one, { sessions: 1, sessions_max: 10000, accepted: 12345, statements: 1234567, bytes_to_upstream: 123456789, bytes_to_client: 123456789 });
        Object.assign(real.clusters[0], { name: 'demo' });
        Object.assign(real.clusters[0].endpoints[0], { name });
        for (const session of real.sessions) Object.assign(session, { listener: 'listener-1', endpoint: name, application_name: 'checkout-service' });
        real.warm = [{ listener: 'listener-1', endpoint: name, database: 'demo', application_name: 'checkout-service', ready: 1, wanted: 1 }];
        fetchStatus = async () => real;
        await ask();
    })()";
    browser.value(busy);

    let broken = "[...document.querySelectorAll('.word')].filter(e => e.checkVisibility() && e.getClientRects().length > 1).map(e => e.innerText)";
    assert_eq!(browser.value(broken), json!([]));
    let names = browser.value("[...document.querySelectorAll('.word')].map(e => e.innerText)").to_string();
    assert!(names.contains("listener-1") && names.contains("checkout-service"), "{names}");
    let wide = "[...document.querySelectorAll('.scroll')].map(e => [e.getAttribute('aria-label'), e.scrollWidth - e.clientWidth]).filter(e => e[1] > 0)";
    assert_eq!(browser.value(wide), json!([]));
    assert_eq!(texts(&mut browser, "#listeners td.mono"), ["localhost:26257"]);
}

#[test]
fn connect_times_are_null_until_a_client_was_served() {
    let cluster = FakeUpstream::answering();
    let proxy = TestProxy::before(&cluster);
    let times = || {
        let listener = proxy.status()["listeners"][0].clone();
        (listener["connect_ms_p50"].clone(), listener["connect_ms_p99"].clone())
    };
    assert_eq!(times(), (Value::Null, Value::Null));

    proxy.client();

    let (p50, p99) = times();
    assert!(p50.as_f64().is_some_and(|p50| p50 > 0.0 && p50 <= p99.as_f64().unwrap()), "{p50}, {p99}");
    assert!(p99.as_f64().unwrap() < 1000.0 * DEADLINE.as_secs_f64(), "{p99} is in milliseconds");
    // A reload forgets none.
    assert_eq!(proxy.http("POST /reload", "").0, 202);
    assert_eq!(times(), (p50, p99));
}

/// The texts that stand out from what is behind them by less than 4.5 to 1.
const FAINT: &str = "(() => {
    const parse = text => { const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number); return [r, g, b, a]; };
    const light = ([r, g, b]) => [r, g, b].map(c => c / 255).map(c => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const behind = node => { for (; node; node = node.parentElement) { const found = parse(getComputedStyle(node).backgroundColor); if (found[3]) return found; } };
    const faint = [], walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walk.nextNode()) {
        const node = walk.currentNode.parentElement;
        if (!walk.currentNode.data.trim() || !node.checkVisibility() || node.closest('script, noscript, style, .unseen')) continue;
        const [a, b] = [light(parse(getComputedStyle(node).color)), light(behind(node))].sort((x, y) => y - x);
        if ((a + 0.05) / (b + 0.05) < 4.5) faint.push(walk.currentNode.data);
    }
    return faint;
})()";
