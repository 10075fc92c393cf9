use super::*;
use crate::settings::{EndpointKind, Name};
use EndpointKind::{Internal, Psc, Public};
use proptest::prelude::*;

/// An endpoint and what is known of it.
#[derive(Clone, Debug)]
struct Known {
    endpoint: Endpoint,
    health: Health,
    order: Option<Order>,
}

fn known(region: &str, kind: EndpointKind) -> Known {
    let endpoint = Endpoint {
        name: Name::new(&format!("{region}-{kind:?}")).unwrap(),
        region: Some(region.to_owned()),
        kind,
        host: "db.example".into(),
        endpoint_name: None,
        port: 26257,
        tls_server_name: "db.example".try_into().unwrap(),
    };
    Known { endpoint, health: Health::unknown(at(0)), order: None }
}

fn at(seconds: u64) -> Moment {
    Moment::default().after(Duration::from_secs(seconds))
}

impl Known {
    fn failed(mut self, seconds: u64) -> Self {
        self.health.failed("refused".into(), at(seconds));
        self
    }

    fn well(mut self, seconds: u64) -> Self {
        self.health.succeeded(at(seconds));
        self
    }

    fn away(mut self, latency_ms: u64) -> Self {
        self.health.answered(Duration::from_millis(latency_ms));
        self
    }

    fn ordered(mut self, order: Order) -> Self {
        self.order = Some(order);
        self
    }
}

fn candidates(known: &[Known]) -> Vec<Candidate<'_>> {
    known
        .iter()
        .map(|known| Candidate { endpoint: &known.endpoint, health: &known.health, order: known.order })
        .collect()
}

fn terms<'a>(policy: &'a Policy, home: Option<&'a str>) -> Terms<'a> {
    Terms { policy, home, failback_after: Duration::from_secs(60), now: at(100) }
}

fn ordered(known: &[Known], policy: &Policy, home: Option<&str>) -> Vec<String> {
    let places = order(&candidates(known), terms(policy, home));
    places.into_iter().map(|place| known[place].endpoint.name.to_string()).collect()
}

fn listed(regions: &[&str]) -> Policy {
    Policy { regions: Regions::Listed(regions.iter().map(ToString::to_string).collect()), ..Policy::default() }
}

fn two_by_two() -> Vec<Known> {
    vec![known("a", Public), known("a", Psc), known("b", Public), known("b", Psc)]
}

#[test]
fn without_wishes_the_order_is_the_settings() {
    assert_eq!(ordered(&two_by_two(), &Policy::default(), None), ["a-Public", "a-Psc", "b-Public", "b-Psc"]);
}

#[test]
fn regions_and_paths_order_and_prefer_says_which_counts_first() {
    let by_path = Policy { path: vec![Psc, Public], ..listed(&["b", "a"]) };
    let by_region = Policy { prefer: Prefer::Region, ..by_path.clone() };

    assert_eq!(ordered(&two_by_two(), &by_path, None), ["b-Psc", "a-Psc", "b-Public", "a-Public"]);
    assert_eq!(ordered(&two_by_two(), &by_region, None), ["b-Psc", "b-Public", "a-Psc", "a-Public"]);
}

#[test]
fn health_goes_before_every_wish() {
    let known = [
        known("a", Public).failed(1).failed(2),
        known("b", Public).failed(1),
        known("c", Public).failed(1).well(90),
        known("d", Public),
    ];

    assert_eq!(ordered(&known, &Policy::default(), None), ["d-Public", "c-Public", "b-Public", "a-Public"]);
}

#[test]
fn an_endpoint_that_was_well_for_long_enough_is_preferred_again() {
    let known = |since| [known("a", Public).failed(1).well(since), known("b", Public)];

    assert_eq!(ordered(&known(41), &Policy::default(), None)[0], "b-Public");
    assert_eq!(ordered(&known(40), &Policy::default(), None)[0], "a-Public");
}

#[test]
fn the_nearest_region_is_home_first_then_by_distance_then_what_is_not_measured() {
    let known = [
        known("far", Public).away(90),
        known("new", Public),
        known("near", Public).away(2),
        known("mid", Public).away(30),
    ];
    let policy = Policy { regions: Regions::Nearest(Vec::new()), ..Policy::default() };

    assert_eq!(ordered(&known, &policy, None), ["near-Public", "mid-Public", "far-Public", "new-Public"]);
    assert_eq!(ordered(&known, &policy, Some("mid")), ["mid-Public", "near-Public", "far-Public", "new-Public"]);
}

#[test]
fn orders_by_hand_leave_out_and_put_first_but_never_a_dead_one() {
    let known =
        |b: Known| [known("a", Public).ordered(Order::Disabled), b.ordered(Order::Preferred), known("c", Public)];

    assert_eq!(ordered(&known(self::known("b", Public)), &listed(&["c", "b", "a"]), None), ["b-Public", "c-Public"]);
    assert_eq!(ordered(&known(self::known("b", Public).failed(1)), &Policy::default(), None), ["c-Public", "b-Public"]);
}

#[test]
fn a_region_is_as_far_as_its_nearest_endpoint() {
    let known =
        [known("a", Public).away(40), known("a", Psc).away(3), known("b", Public).away(20), known("c", Internal)];

    let distances = distances(&candidates(&known));

    assert_eq!(distances, [("a".to_owned(), Duration::from_millis(3)), ("b".to_owned(), Duration::from_millis(20))]);
}

prop_compose! {
    fn any_known()(
        region in 0..4_usize,
        kind in prop::sample::select(vec![Public, Internal, Psc, EndpointKind::Custom]),
        events in prop::collection::vec((0..3_u8, 0..100_u64), 0..6),
        latency in prop::option::of(0..200_u64),
        order in prop::sample::select(vec![None, None, None, Some(Order::Disabled), Some(Order::Preferred)]),
    ) -> Known {
        let mut known = known(["a", "b", "c", "d"][region], kind);
        let mut events = events;
        events.sort_by_key(|(_, seconds)| *seconds);
        for (event, seconds) in events {
            known = match event {
                0 => known.failed(seconds),
                _ => known.well(seconds),
            };
        }
        if let Some(latency) = latency {
            known = known.away(latency);
        }
        Known { order, ..known }
    }
}

prop_compose! {
    fn any_policy()(
        regions in prop::sample::subsequence(vec!["a", "b", "c", "d"], 0..=4),
        is_nearest in any::<bool>(),
        path in prop::sample::subsequence(vec![Psc, Internal, EndpointKind::Custom, Public], 0..=4),
        by_region in any::<bool>(),
    ) -> Policy {
        let regions = regions.into_iter().map(str::to_owned).collect();
        Policy {
            regions: if is_nearest { Regions::Nearest(regions) } else { Regions::Listed(regions) },
            path,
            prefer: if by_region { Prefer::Region } else { Prefer::Path },
            overflow: false,
        }
    }
}

proptest! {
    #[test]
    fn an_order_has_each_endpoint_once_but_for_the_disabled_ones(
        known in prop::collection::vec(any_known(), 0..8),
        policy in any_policy(),
        home in prop::sample::select(vec![None, Some("a"), Some("c"), Some("elsewhere")]),
    ) {
        let mut places = order(&candidates(&known), terms(&policy, home));
        let mut home_places = home_order(&candidates(&known), terms(&policy, home));

        let usable: Vec<_> = (0..known.len()).filter(|place| known[*place].order != Some(Order::Disabled)).collect();
        places.sort_unstable();
        home_places.sort_unstable();
        prop_assert_eq!(&places, &usable);
        prop_assert_eq!(home_places, usable);
    }

    #[test]
    fn nothing_goes_before_a_better_standing_but_an_order_by_hand(
        known in prop::collection::vec(any_known(), 2..8),
        policy in any_policy(),
        home in prop::sample::select(vec![None, Some("b")]),
    ) {
        let places = order(&candidates(&known), terms(&policy, home));

        for pair in places.windows(2) {
            let [first, second] = [&known[pair[0]], &known[pair[1]]];
            let standing = |known: &Known| known.health.standing(Duration::from_secs(60), at(100));
            let is_by_hand = first.order == Some(Order::Preferred) && standing(first) <= Standing::Returning;
            prop_assert!(is_by_hand || standing(first) <= standing(second), "{:?} before {:?}", first, second);
        }
    }

    #[test]
    fn the_choice_depends_on_nothing_but_its_inputs(
        known in prop::collection::vec(any_known(), 0..8),
        policy in any_policy(),
    ) {
        let once = order(&candidates(&known), terms(&policy, Some("b")));
        prop_assert_eq!(once, order(&candidates(&known), terms(&policy, Some("b"))));
    }

    #[test]
    fn among_equals_the_settings_order_holds(count in 1..10_usize, policy in any_policy()) {
        let known = vec![known("a", Public); count];

        prop_assert_eq!(order(&candidates(&known), terms(&policy, None)), (0..count).collect::<Vec<_>>());
    }
}
