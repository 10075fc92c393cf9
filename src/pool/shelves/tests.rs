use super::*;

const RULES: Rules = Rules { warm_max: 4, warm_idle: Duration::from_secs(300), reuse: false };
const SECRET: u64 = 1;

fn at(seconds: u64) -> Moment {
    Moment::default().after(Duration::from_secs(seconds))
}

fn parameters(name: &str) -> StartupParameters {
    StartupParameters::parse(format!("user\0app\0application_name\0{name}\0\0").as_bytes()).unwrap()
}

/// The set with this number.
fn set(number: u64) -> StartupParameters {
    parameters(&number.to_string())
}

/// A set that clients have used twice.
fn known(number: u64) -> Shelves<u32> {
    let mut shelves = Shelves::new(RULES);
    learn(&mut shelves, number, 0);
    learn(&mut shelves, number, 0);
    shelves
}

fn learn(shelves: &mut Shelves<u32>, number: u64, seconds: u64) {
    shelves.learn(&set(number), at(seconds));
}

/// How many openings begin in this second, all of them still under way.
fn openings(shelves: &mut Shelves<u32>, seconds: u64) -> Vec<Opening> {
    let mut all = Vec::new();
    for step in 0..40 {
        all.extend(shelves.next_opening(|_| SECRET, at(seconds).after(step * Duration::from_millis(25) * 11 / 10)));
    }
    all
}

#[test]
fn a_set_is_kept_ready_from_its_second_use_on() {
    let mut shelves = Shelves::new(RULES);
    assert!(shelves.used(&set(7), at(0)).is_none());
    learn(&mut shelves, 7, 0);
    assert!(openings(&mut shelves, 0).is_empty());

    // Before the second has a session.
    assert!(shelves.used(&set(7), at(1)).is_some());

    assert_eq!(openings(&mut shelves, 1).len(), 1);
}

#[test]
fn a_set_that_came_twice_at_once_is_known() {
    let mut shelves = Shelves::<u32>::new(RULES);
    learn(&mut shelves, 7, 0);
    learn(&mut shelves, 7, 0);

    assert_eq!(openings(&mut shelves, 0).len(), 1);
}

#[test]
fn a_second_use_that_comes_too_late_is_a_first_one() {
    let mut shelves = Shelves::new(RULES);
    learn(&mut shelves, 7, 0);
    learn(&mut shelves, 7, 300);

    assert!(openings(&mut shelves, 300).is_empty());
}

#[test]
fn sets_that_never_repeat_cost_nothing_and_are_bounded() {
    let mut shelves = Shelves::new(RULES);
    for key in 0..10_000 {
        learn(&mut shelves, key, 0);
    }

    assert!(openings(&mut shelves, 0).is_empty());
    assert_eq!((shelves.seen.len(), shelves.shelves.len()), (SEEN_MAX, 0));
    // Those that are old make room.
    learn(&mut shelves, 20_000, 300);
    assert_eq!(shelves.seen.len(), 1);
}

#[test]
fn sets_are_bounded_in_number_and_in_bytes() {
    let mut many = Shelves::<u32>::new(RULES);
    let mut large = Shelves::<u32>::new(RULES);
    for key in 0..1000 {
        for _ in 0..2 {
            many.learn(&set(key), at(0));
            large.learn(&parameters(&format!("{key:010000}")), at(0));
        }
    }

    assert_eq!(many.shelves.len(), SHELVES_MAX);
    assert!(large.bytes <= BYTES_MAX && large.shelves.len() < 110, "{} sets", large.shelves.len());
    many.forget_idle(at(300));
    large.forget_idle(at(300));
    assert_eq!((many.shelves.len(), large.bytes), (0, 0));
}

#[test]
fn as_many_are_opened_as_were_used_at_once_and_no_more_than_the_most() {
    let mut shelves = known(7);
    shelves.used(&set(7), at(1));
    shelves.used(&set(7), at(1));
    assert_eq!(openings(&mut shelves, 1).len(), 2);

    for _ in 0..20 {
        shelves.used(&set(7), at(2));
    }
    assert_eq!(openings(&mut shelves, 2).len(), RULES.warm_max);
}

#[test]
fn openings_keep_a_distance() {
    let mut shelves = known(7);
    shelves.used(&set(7), at(1));
    shelves.used(&set(7), at(1));

    let first = shelves.next_opening(|_| SECRET, at(1));
    assert!(first.is_some() && shelves.next_opening(|_| SECRET, at(1)).is_none());
    assert!(shelves.next_due(|_| SECRET).unwrap() > at(1));
    assert!(shelves.next_opening(|_| SECRET, at(2)).is_some());
}

#[test]
fn an_opening_that_is_dropped_is_tried_again() {
    let mut shelves = known(7);
    let first = shelves.next_opening(|_| SECRET, at(1));
    assert!(first.is_some() && shelves.next_opening(|_| SECRET, at(2)).is_none());

    drop(first);

    assert!(shelves.next_opening(|_| SECRET, at(3)).is_some());
}

#[test]
fn failures_back_off_and_a_success_ends_that() {
    let mut shelves = known(7);
    let mut pauses = Vec::new();
    let mut now = at(1);
    for _ in 0..10 {
        // Or the moment to forget the set would come before that of the next opening.
        shelves.used(&set(7), now).unwrap();
        let opening = shelves.next_opening(|_| SECRET, now).unwrap();
        drop(opening);
        shelves.failed(&set(7), Setback::Failed, now);
        let next = shelves.next_due(|_| SECRET).unwrap();
        pauses.push(next.since(now));
        now = next.after(Duration::from_millis(1));
    }

    assert!(pauses[0] < Duration::from_millis(1101) && pauses[3] > Duration::from_secs(7), "{pauses:?}");
    assert!(pauses.iter().all(|pause| *pause <= BACK_OFF_MAX.mul_f64(1.1)), "{pauses:?}");
    shelves.put(&set(7), 1, at(1)).unwrap();
    shelves.used(&set(7), now).unwrap().ready.pop_front();
    shelves.used(&set(7), now).unwrap().succeeded();
    shelves.failed(&set(7), Setback::Failed, now);
    assert!(shelves.next_due(|_| SECRET).unwrap().since(now) < Duration::from_millis(1101));
}

#[test]
fn a_full_server_is_left_alone_for_ten_minutes() {
    let mut shelves = known(7);
    shelves.failed(&set(7), Setback::Full, at(1));
    shelves.used(&set(7), at(599));

    assert!(shelves.next_opening(|_| SECRET, at(600)).is_none());
    assert!(shelves.next_opening(|_| SECRET, at(601)).is_some());
}

#[test]
fn a_refused_secret_is_not_tried_again_and_another_one_is() {
    let mut shelves = known(7);
    shelves.failed(&set(7), Setback::Secret(SECRET), at(1));

    assert!(shelves.next_opening(|_| SECRET, at(200)).is_none());
    assert!(shelves.next_opening(|_| SECRET + 1, at(200)).is_some());
}

#[test]
fn an_unused_set_is_forgotten_with_what_stood_ready() {
    let mut shelves = known(7);
    shelves.put(&set(7), 42, at(1)).unwrap();
    shelves.used(&set(7), at(10));

    assert!(shelves.forget_idle(at(309)).is_empty());
    assert_eq!(shelves.next_due(|_| SECRET), Some(at(310)));
    assert_eq!(shelves.forget_idle(at(310)), [42]);

    assert_eq!(shelves.put(&set(7), 43, at(1)), Err(43), "it is not known any more");
    assert_eq!(shelves.next_due(|_| SECRET), None);
}

#[test]
fn no_more_stand_ready_than_the_most() {
    let mut shelves = known(7);
    for item in 0..4 {
        shelves.put(&set(7), item, at(1)).unwrap();
    }

    assert_eq!(shelves.put(&set(7), 4, at(1)), Err(4));
    assert_eq!((shelves.ready(), shelves.list()[0].1), (4, 4));
}

#[test]
fn a_pause_holds_for_all_sets() {
    let mut shelves = known(7);
    shelves.pause(Duration::from_secs(60), at(1));

    assert!(shelves.next_opening(|_| SECRET, at(60)).is_none());
    assert!(shelves.next_opening(|_| SECRET, at(61)).is_some());
}

#[test]
fn where_sessions_give_back_they_are_waited_for_a_moment() {
    let mut shelves = Shelves::<u32>::new(Rules { reuse: true, ..RULES });
    learn(&mut shelves, 7, 0);
    learn(&mut shelves, 7, 0);
    shelves.used(&set(7), at(1));

    assert!(shelves.next_opening(|_| SECRET, at(1)).is_none());
    assert!(shelves.next_opening(|_| SECRET, at(1).after(REUSE_PATIENCE)).is_some());
}

/// A set that clients have used twice, of a listener that uses upstreams again.
fn reused(number: u64) -> Shelves<u32> {
    let mut shelves = Shelves::new(Rules { reuse: true, ..RULES });
    learn(&mut shelves, number, 0);
    learn(&mut shelves, number, 0);
    shelves
}

#[test]
fn while_sessions_give_back_none_is_opened() {
    let mut shelves = reused(7);
    shelves.used(&set(7), at(1));
    let later = at(1).after(REUSE_PATIENCE / 2);
    assert_eq!(shelves.hand_on(&set(7), 1, later), Err(1), "nobody waits");

    assert!(shelves.next_opening(|_| SECRET, at(1).after(REUSE_PATIENCE)).is_none());
    assert!(shelves.next_opening(|_| SECRET, later.after(REUSE_PATIENCE)).is_some());
}

#[test]
fn clients_wait_for_what_comes_back_in_their_order_and_no_more_of_them_than_that() {
    let mut shelves = reused(7);
    let wait = |shelves: &mut Shelves<u32>| shelves.used(&set(7), at(1)).unwrap().wait();
    assert!(wait(&mut shelves).is_none(), "nothing comes");
    assert!(shelves.expect(&set(7)) && shelves.expect(&set(7)));
    assert!(!shelves.expect(&set(8)), "a set that is not known");

    let (mut first, mut second) = (wait(&mut shelves).unwrap(), wait(&mut shelves).unwrap());
    assert!(wait(&mut shelves).is_none(), "two come, and two wait");
    shelves.hand_on(&set(7), 1, at(1)).unwrap();
    shelves.unexpect(&set(7));
    assert_eq!((first.try_recv(), second.try_recv()), (Ok(1), Err(oneshot::error::TryRecvError::Empty)));
    shelves.hand_on(&set(7), 2, at(1)).unwrap();
    shelves.unexpect(&set(7));

    assert_eq!(second.try_recv(), Ok(2));
    assert!(wait(&mut shelves).is_none(), "nothing comes any more");
}

#[test]
fn who_waits_for_what_does_not_come_is_told() {
    let mut shelves = reused(7);
    shelves.expect(&set(7));
    shelves.expect(&set(7));
    let mut waiting: Vec<_> = (0..2).map(|_| shelves.used(&set(7), at(1)).unwrap().wait().unwrap()).collect();

    shelves.unexpect(&set(7));

    assert_eq!(waiting[0].try_recv(), Err(oneshot::error::TryRecvError::Empty));
    assert_eq!(waiting[1].try_recv(), Err(oneshot::error::TryRecvError::Closed), "one comes, for the first");
}

#[test]
fn a_client_that_left_takes_nothing_and_no_place() {
    let mut shelves = reused(7);
    shelves.expect(&set(7));
    drop(shelves.used(&set(7), at(1)).unwrap().wait().unwrap());
    let mut second = shelves.used(&set(7), at(1)).unwrap().wait().unwrap();
    shelves.hand_on(&set(7), 1, at(1)).unwrap();
    assert_eq!(second.try_recv(), Ok(1));

    drop(shelves.used(&set(7), at(1)).unwrap().wait().unwrap());
    assert_eq!(shelves.hand_on(&set(7), 2, at(1)), Err(2));
}

#[test]
fn what_is_being_reset_is_bounded_and_keeps_its_set_known() {
    let mut shelves = reused(7);
    for _ in 0..COMING_MAX {
        assert!(shelves.expect(&set(7)));
    }
    assert!(!shelves.expect(&set(7)));
    shelves.forget_idle(at(1000));
    assert_eq!(shelves.shelves.len(), 1);

    for _ in 0..COMING_MAX {
        shelves.unexpect(&set(7));
    }
    shelves.forget_idle(at(1000));
    assert_eq!(shelves.shelves.len(), 0);
}

#[test]
fn what_is_given_back_may_be_more_than_the_most_and_is_bounded() {
    let mut shelves = reused(7);
    for item in 0..64 {
        shelves.put(&set(7), item, at(1)).unwrap();
    }

    assert_eq!(shelves.put(&set(7), 64, at(1)), Err(64));
}
