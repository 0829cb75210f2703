//! A model of the protocol of leases, and a search through all that can happen in it. The protocol is correct where no order
//! of steps leads to an answer that it must not give; each of its rules is needed where the search finds such an order
//! without it. See docs/decisions/0016-leases-across-nodes.md.
//!
//! There is one session, and one change that ends it. One node looks, caches, and reads directly; one revokes, which is the
//! same one or another; PostgreSQL fails over once, and its former primary goes on answering reads. Every message may take
//! any time. Nodes do not depend on each other, but in that whoever revokes waits for each: so one is enough.
//!
//! Times are ages in ticks, from 0 to [`OLD`], at which everything has run out.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use super::protocol::{has_looked_since, has_run_out};
use crate::repository::lease::is_live;

/// A tick is as long as clocks may differ by.
const TICK: Duration = Duration::from_millis(10);
const LEASE: u8 = 1;
const OLD: u8 = LEASE + 1;

/// The greatest number of a beat: looks beyond it are not searched.
const BEATS: i8 = 4;

/// The rules of the protocol. A mutant has another one.
#[derive(Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "each is a rule that a mutant breaks")]
struct Rules {
    /// The beats that the revoker goes by are read after the COMMIT.
    reads_beats_after_commit: bool,
    has_looked_since: fn(i64, i64) -> bool,
    has_run_out: fn(i64, i64, Duration, Duration) -> bool,
    /// A look counts only if its beat was confirmed as every write is.
    confirms_beats: bool,
    /// A beat that arrives late does not take the place of a greater one.
    only_grows: bool,
    /// The feed is read by snapshots, and not by the greatest id that was seen.
    feeds_by_snapshot: bool,
    /// A lease begins with the look, and not with its end.
    leases_from_beginning: bool,
    /// A look that fails ends the lease.
    ends_lease_on_failure: bool,
    /// On a new connection everything is forgotten.
    forgets_on_new_link: bool,
    /// What is read directly is believed by a lease on the same server.
    checks_server: bool,
    /// A look confirms what was read before it began, and not before it ended.
    confirms_what_was_before: bool,
    /// What was read before a change was told is not cached after it.
    checks_versions: bool,
    /// The revoker waits for its own lease, too, where it is on another server.
    waits_for_itself: bool,
}

const REAL: Rules = Rules {
    reads_beats_after_commit: true,
    has_looked_since,
    has_run_out,
    confirms_beats: true,
    only_grows: true,
    feeds_by_snapshot: true,
    leases_from_beginning: true,
    ends_lease_on_failure: true,
    forgets_on_new_link: true,
    checks_server: true,
    confirms_what_was_before: true,
    checks_versions: true,
    waits_for_itself: true,
};

/// What a server has, of what is confirmed.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Server {
    /// The change is committed.
    is_ended: bool,
    /// Another change, of a greater id, is committed.
    has_later_id: bool,
    /// The node's row.
    beat: Option<i8>,
}

/// A look that has begun.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Look {
    Begun,
    Beaten,
    /// The feed was read, with the change in it or without.
    Fed {
        has_change: bool,
        is_ended: bool,
        greatest: u8,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Link {
    server: usize,
    is_new: bool,
    /// What the snapshot of the last look had, and the greatest id in the feed.
    is_ended: bool,
    greatest: u8,
}

/// A read that no cache answers, after the server has answered that the session lives. Another answer is never wrong.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Read {
    server: usize,
    /// The request began after the acknowledgement.
    is_late: bool,
    /// A change was told since.
    is_outdated: bool,
    /// A look has begun since.
    is_before_look: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Node {
    link: Option<Link>,
    look: Option<Look>,
    look_age: u8,
    number: i8,
    /// The age of the lease, and its server.
    lease: Option<(u8, usize)>,
    /// The session is cached as live.
    is_cached: bool,
    read: Option<Read>,
    /// A beat on a connection that was given up: it may arrive yet.
    late_beat: Option<i8>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Revoker {
    Ready,
    /// Only mutants read the beats first.
    Read {
        beat: Option<i8>,
    },
    Committed {
        server: usize,
    },
    Waiting {
        server: usize,
        beat: Option<i8>,
        age: u8,
    },
    Done,
}

/// What can happen beside looks, reads and the revocation. Two of these at once are not searched: they would be too many
/// states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Scope {
    /// Beats that arrive late, and a row that is pruned.
    LateBeats,
    /// A failover, with another node that revokes.
    Failover,
    /// A failover, with a node that revokes itself.
    OwnFailover,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct State {
    servers: [Server; 2],
    primary: usize,
    node: Node,
    revoker: Revoker,
    scope: Scope,
    /// The beat that the revoker has seen, and its age since.
    seen: Option<(i8, u8)>,
    /// How old the node's row is at the primary: one that was not changed for long is pruned.
    beat_age: u8,
}

impl State {
    fn first(scope: Scope) -> Self {
        Self {
            servers: [Server::default(); 2],
            primary: 0,
            node: Node::default(),
            revoker: Revoker::Ready,
            scope,
            seen: None,
            beat_age: 0,
        }
    }

    fn is_acknowledged(&self) -> bool {
        self.revoker == Revoker::Done
    }

    fn has_lease(&self) -> bool {
        self.node.lease.is_some_and(|(age, _)| is_live(TICK * age.into(), TICK * LEASE.into()))
    }

    /// Whether the cache answers that the session lives, to a request that begins now.
    fn is_wrong(&self) -> bool {
        self.is_acknowledged() && self.has_lease() && self.node.is_cached
    }

    /// Forgets what makes no difference any more, so that states are the same that differ by nothing else.
    fn forget_what_is_over(&mut self) {
        if self.is_acknowledged() {
            self.seen = None;
        }
        if self.scope != Scope::LateBeats || self.is_acknowledged() {
            self.beat_age = 0;
        }
        if self.is_acknowledged() {
            (self.node.number, self.node.late_beat) = (0, None);
            self.servers.iter_mut().for_each(|server| server.beat = None);
        }
        if self.primary == 1 && self.revoker != (Revoker::Committed { server: 0 }) {
            self.servers[0].beat = None;
        }
        if self.scope != Scope::OwnFailover && !self.has_lease() {
            self.node.lease = None;
        }
    }

    /// A change was told to the cache, or all was forgotten.
    fn invalidate(&mut self) {
        self.node.is_cached = false;
        if let Some(read) = &mut self.node.read {
            read.is_outdated = true;
        }
    }
}

/// A step, by its name, and what it leads to; `None` for an answer that must not be given.
type Step = (&'static str, Option<State>);

/// All that can happen next.
fn steps(state: &State, rules: &Rules) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut step = |name, change: &dyn Fn(&mut State)| {
        let mut next = *state;
        change(&mut next);
        next.forget_what_is_over();
        if next != *state {
            steps.push((name, (!next.is_wrong()).then_some(next)));
        }
    };
    step("time passes", &|next| pass(next));
    if state.primary == 0 && state.scope != Scope::LateBeats {
        step("PostgreSQL fails over", &|next| {
            next.servers[1] = next.servers[0];
            next.primary = 1;
            // What arrives there now is never confirmed.
            next.node.late_beat = None;
        });
    }
    if !rules.feeds_by_snapshot {
        step("another change is committed", &|next| next.servers[next.primary].has_later_id = true);
    }
    step("the revoker looks", &|next| {
        let number = next.servers[next.primary].beat;
        next.seen = number.map(|number| match next.seen {
            Some((known, age)) if known == number => (known, age),
            _ => (number, 0),
        });
    });
    if state.beat_age == OLD {
        step("the node's row is pruned", &|next| next.servers[next.primary].beat = None);
    }
    revoke(state, rules, &mut step);
    look(state, rules, &mut step);
    for server in 0..=state.primary {
        if state.node.read.is_none() && !state.servers[server].is_ended {
            step(["a read of the former primary", "a read of the new primary"][server], &|next| {
                next.node.read =
                    Some(Read { server, is_late: next.is_acknowledged(), is_outdated: false, is_before_look: false });
            });
        }
    }
    if state.node.read.is_some() {
        step("a read is given up", &|next| next.node.read = None);
    }
    let read = state.node.read;
    let is_confirmed = |read: &Read| {
        state.has_lease() && (!rules.checks_server || state.node.lease.map(|(_, at)| at) == Some(read.server))
    };
    if let Some(read) = read.filter(is_confirmed) {
        steps.push(("a read is confirmed by the lease", answer(state, rules, read)));
    }
    if let Some(number) = state.node.late_beat {
        let mut next = *state;
        next.node.late_beat = None;
        beat(&mut next, number, rules);
        next.forget_what_is_over();
        steps.push(("a late beat arrives", Some(next)));
    }
    // Whoever finishes a look has confirmed what was read before it.
    if let Some(next) = finished(state, rules) {
        let read = next.node.read.filter(|read| {
            let at = next.node.link.map(|link| link.server);
            (read.is_before_look || !rules.confirms_what_was_before)
                && (at == Some(read.server) || !rules.checks_server)
        });
        steps.push(("a look ends", (!next.is_wrong()).then_some(next)));
        if let Some(read) = read {
            steps.push(("a look ends that confirms a read", answer(&next, rules, read)));
        }
    }
    steps
}

/// Answers a read, and caches what it says.
fn answer(state: &State, rules: &Rules, read: Read) -> Option<State> {
    let mut next = *state;
    next.node.read = None;
    next.forget_what_is_over();
    next.node.is_cached |= !(read.is_outdated && rules.checks_versions);
    (!read.is_late && !next.is_wrong()).then_some(next)
}

fn pass(next: &mut State) {
    let older = |age: &mut u8| *age = OLD.min(*age + 1);
    older(&mut next.node.look_age);
    if next.node.look.is_none() {
        next.node.look_age = 0;
    }
    if let Some((age, _)) = &mut next.node.lease {
        older(age);
    }
    if let Some((_, age)) = &mut next.seen {
        older(age);
    }
    if let Revoker::Waiting { age, .. } = &mut next.revoker {
        older(age);
    }
    older(&mut next.beat_age);
}

/// A beat at the primary.
fn beat(next: &mut State, number: i8, rules: &Rules) {
    let beat = &mut next.servers[next.primary].beat;
    if !rules.only_grows || beat.is_none_or(|earlier| earlier < number) {
        (*beat, next.beat_age) = (Some(number), 0);
    }
}

/// The steps of whoever revokes: a COMMIT, which a primary alone can have confirmed; a read of the beats on the same server,
/// whatever that is by then; and the wait.
fn revoke(state: &State, rules: &Rules, step: &mut impl FnMut(&'static str, &dyn Fn(&mut State))) {
    match state.revoker {
        Revoker::Ready if !rules.reads_beats_after_commit => step("the beats are read", &|next| {
            next.revoker = Revoker::Read { beat: next.servers[next.primary].beat };
        }),
        Revoker::Ready | Revoker::Read { .. } => step("the change is committed", &|next| {
            next.servers[next.primary].is_ended = true;
            next.revoker = match next.revoker {
                Revoker::Read { beat } => Revoker::Waiting { server: next.primary, beat, age: 0 },
                _ => Revoker::Committed { server: next.primary },
            };
        }),
        Revoker::Committed { server } => step("the beats are read", &|next| {
            next.revoker = Revoker::Waiting { server, beat: next.servers[server].beat, age: 0 };
            if next.scope == Scope::OwnFailover {
                next.invalidate();
            }
        }),
        Revoker::Waiting { server, beat, age } => {
            let is_own_server = state.node.lease.is_some_and(|(_, at)| at == server);
            let is_skipped = state.scope == Scope::OwnFailover && (is_own_server || !rules.waits_for_itself);
            let time = |age: u8| TICK * age.into();
            let is_known = beat.is_none_or(|read| {
                state.seen.is_some_and(|(seen, unchanged_for)| {
                    (rules.has_looked_since)(read.into(), seen.into())
                        || (rules.has_run_out)(read.into(), seen.into(), time(unchanged_for), time(LEASE))
                })
            });
            if is_skipped || is_known || age == OLD {
                step("the change is acknowledged", &|next| next.revoker = Revoker::Done);
            }
        }
        Revoker::Done => {}
    }
}

/// The steps of a look, but for its end.
fn look(state: &State, rules: &Rules, step: &mut impl FnMut(&'static str, &dyn Fn(&mut State))) {
    let Some(look) = state.node.look else {
        if state.node.number < BEATS || state.is_acknowledged() {
            for server in 0..=state.primary {
                let link = Link { server, is_new: true, is_ended: false, greatest: 0 };
                let link = state.node.link.unwrap_or(link);
                let name = ["a look at the former primary begins", "a look at the new primary begins"][link.server];
                step(name, &|next| {
                    next.node.link = Some(link);
                    (next.node.look, next.node.look_age) = (Some(Look::Begun), 0);
                    next.node.number += 1;
                    if let Some(read) = &mut next.node.read {
                        read.is_before_look = true;
                    }
                });
            }
        }
        return;
    };
    step("a look fails", &|next| {
        if look == Look::Begun
            && next.scope == Scope::LateBeats
            && next.node.link.is_some_and(|link| link.server == next.primary)
        {
            next.node.late_beat = Some(next.node.number);
        }
        (next.node.look, next.node.link, next.node.look_age) = (None, None, 0);
        if rules.ends_lease_on_failure {
            next.node.lease = None;
        }
    });
    let Some(link) = state.node.link else { return };
    match look {
        Look::Begun if link.server == state.primary || !rules.confirms_beats => step("a beat", &|next| {
            if link.server == next.primary {
                beat(next, next.node.number, rules);
            }
            next.node.look = Some(Look::Beaten);
        }),
        Look::Beaten => step("the feed is read", &|next| {
            let server = next.servers[link.server];
            let is_found = if rules.feeds_by_snapshot { !link.is_ended } else { link.greatest < 1 };
            let greatest = if server.has_later_id { 2 } else { u8::from(server.is_ended) }.max(link.greatest);
            // The first look on a connection has no snapshot to begin with.
            let has_change = server.is_ended && is_found && !link.is_new;
            next.node.look = Some(Look::Fed { has_change, is_ended: server.is_ended, greatest });
        }),
        Look::Begun | Look::Fed { .. } => {}
    }
}

/// The end of a look, where it can end.
fn finished(state: &State, rules: &Rules) -> Option<State> {
    let (Some(Look::Fed { has_change, is_ended, greatest }), Some(link)) = (state.node.look, state.node.link) else {
        return None;
    };
    let mut next = *state;
    if has_change || (link.is_new && rules.forgets_on_new_link) {
        next.invalidate();
    }
    next.node.link = Some(Link { is_new: false, is_ended, greatest, ..link });
    next.node.lease = Some((if rules.leases_from_beginning { state.node.look_age } else { 0 }, link.server));
    (next.node.look, next.node.look_age) = (None, 0);
    next.forget_what_is_over();
    Some(next)
}

/// Searches all that can happen, the shortest first. The steps to the first wrong answer, where there is one, and how many
/// states were found.
fn search(rules: &Rules) -> (Option<Vec<&'static str>>, usize) {
    let mut searched = 0;
    for scope in [Scope::LateBeats, Scope::Failover, Scope::OwnFailover] {
        let mut ways = vec![(0, "")];
        let mut queue = VecDeque::from([(State::first(scope), 0)]);
        let mut found: HashSet<State> = queue.iter().map(|(first, _)| *first).collect();
        while let Some((state, number)) = queue.pop_front() {
            for (name, next) in steps(&state, rules) {
                let Some(next) = next else {
                    let mut way = vec![name];
                    let mut at: usize = number;
                    while at > 0 {
                        way.push(ways[at].1);
                        at = ways[at].0;
                    }
                    way.reverse();
                    return (Some(way), searched + found.len());
                };
                if found.insert(next) {
                    queue.push_back((next, ways.len()));
                    ways.push((number, name));
                }
            }
        }
        searched += found.len();
    }
    (None, searched)
}

/// A mutant must lead to a wrong answer: otherwise its rule is not needed, or the model does not see what it is for.
fn is_caught(rules: Rules) {
    let (way, states) = search(&rules);
    let way = way.expect("every order of steps is right without this rule");
    println!("{states} states, then: {}", way.join("; "));
}

#[test]
fn no_order_of_steps_leads_to_an_answer_for_a_session_whose_end_was_acknowledged() {
    let (way, states) = search(&REAL);
    assert_eq!(way, None);
    println!("{states} states");
    assert!(states > 10_000, "{states} states: the search has missed most of them");
}

#[test]
fn it_needs_the_beats_as_of_after_the_commit() {
    is_caught(Rules { reads_beats_after_commit: false, ..REAL });
}

#[test]
fn it_needs_two_beats() {
    is_caught(Rules { has_looked_since: |read, seen| seen > read, ..REAL });
}

#[test]
fn it_needs_the_beat_to_be_the_same_for_the_whole_of_a_lease() {
    is_caught(Rules { has_run_out: |read, seen, _, _| seen == read, ..REAL });
}

#[test]
fn it_needs_the_beat_that_was_unchanged_to_be_the_one_that_was_read() {
    is_caught(Rules {
        has_run_out: |read, _, unchanged_for, lease| has_run_out(read, read, unchanged_for, lease),
        ..REAL
    });
}

#[test]
fn it_needs_beats_that_are_confirmed() {
    is_caught(Rules { confirms_beats: false, ..REAL });
}

#[test]
fn it_needs_beats_that_only_grow() {
    is_caught(Rules { only_grows: false, ..REAL });
}

#[test]
fn it_needs_a_feed_by_snapshots() {
    is_caught(Rules { feeds_by_snapshot: false, ..REAL });
}

#[test]
fn it_needs_leases_from_the_beginning_of_a_look() {
    is_caught(Rules { leases_from_beginning: false, ..REAL });
}

#[test]
fn it_needs_a_failed_look_to_end_the_lease() {
    is_caught(Rules { ends_lease_on_failure: false, ..REAL });
}

#[test]
fn it_needs_everything_to_be_forgotten_on_a_new_connection() {
    is_caught(Rules { forgets_on_new_link: false, ..REAL });
}

#[test]
fn it_needs_what_is_read_to_be_of_the_server_that_the_lease_is_on() {
    is_caught(Rules { checks_server: false, ..REAL });
}

#[test]
fn it_needs_a_look_that_confirms_a_read_to_begin_after_it() {
    is_caught(Rules { confirms_what_was_before: false, ..REAL });
}

#[test]
fn it_needs_what_was_read_before_a_change_to_stay_out_of_the_cache() {
    is_caught(Rules { checks_versions: false, ..REAL });
}

#[test]
fn it_needs_the_revoker_to_wait_for_its_own_lease_on_another_server() {
    is_caught(Rules { waits_for_itself: false, ..REAL });
}
