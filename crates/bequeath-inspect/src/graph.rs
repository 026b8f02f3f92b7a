//! Who waits for whom: circles in the graph whose nodes are waiting threads, and whose edges lead from
//! a thread to the waiting threads that hold what it waits for.

use std::collections::BTreeSet;

use crate::report::{Holder, Link, Wait};

/// The circles, each once.
pub(crate) fn cycles(waits: &[Wait]) -> Vec<Vec<Link>> {
    let edges: Vec<Vec<usize>> = waits
        .iter()
        .map(|wait| {
            let holds = |other: &usize| {
                let mut holders = wait.held_by.iter();
                holders.any(|holder| is_the_same(holder, &waits[*other].who))
            };
            (0..waits.len()).filter(holds).collect()
        })
        .collect();
    let mut found = BTreeSet::new();
    let mut done = vec![false; waits.len()];
    for start in 0..waits.len() {
        if !done[start] {
            walk(start, &edges, &mut Vec::new(), &mut done, &mut found);
        }
    }
    let link = |index: &usize| {
        let wait = &waits[*index];
        Link {
            pid: wait.who.pid,
            process: wait.who.process.clone(),
            thread: wait.who.thread,
            object: wait.object.clone().unwrap_or_default(),
            object_name: wait.object_name.clone(),
        }
    };
    found
        .iter()
        .map(|cycle| cycle.iter().map(link).collect())
        .collect()
}

/// A lock whose owner's thread is not known may be any of its threads'.
fn is_the_same(holder: &Holder, waiter: &Holder) -> bool {
    let number = holder.thread_number;
    holder.identity == waiter.identity && (number.is_none() || number == waiter.thread_number)
}

fn walk(
    node: usize,
    edges: &[Vec<usize>],
    path: &mut Vec<usize>,
    done: &mut [bool],
    found: &mut BTreeSet<Vec<usize>>,
) {
    if let Some(at) = path.iter().position(|seen| *seen == node) {
        let mut cycle = path[at..].to_vec();
        let least = (0..cycle.len()).min_by_key(|index| cycle[*index]);
        cycle.rotate_left(least.unwrap_or(0));
        found.insert(cycle);
        return;
    }
    if done[node] {
        return;
    }
    path.push(node);
    for next in &edges[node] {
        walk(*next, edges, path, done, found);
    }
    path.pop();
    done[node] = true;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thread(number: u32) -> Holder {
        Holder {
            pid: number,
            process: format!("P{number}"),
            thread: None,
            thread_name: None,
            alive: true,
            identity: number.into(),
            thread_number: Some(1),
        }
    }

    fn wait(who: u32, object: &str, held_by: &[u32]) -> Wait {
        Wait {
            who: thread(who),
            object: Some(object.to_owned()),
            object_name: object.to_owned(),
            waits: "to acquire",
            seconds: 1.0,
            held_by: held_by.iter().copied().map(thread).collect(),
        }
    }

    fn pids(cycles: &[Vec<Link>]) -> Vec<Vec<u32>> {
        let pids = |cycle: &Vec<Link>| cycle.iter().map(|link| link.pid).collect();
        cycles.iter().map(pids).collect()
    }

    #[test]
    fn a_circle_is_found_once_and_what_leads_to_it_is_no_part() {
        let waits = [
            wait(9, "a", &[1]),
            wait(1, "b", &[2]),
            wait(2, "c", &[3]),
            wait(3, "a", &[1]),
        ];
        let found = cycles(&waits);
        assert_eq!(pids(&found), [[1, 2, 3]]);
        assert_eq!(found[0][1].object, "c");
    }

    #[test]
    fn a_line_is_no_circle() {
        let waits = [wait(1, "a", &[2]), wait(2, "b", &[3])];
        assert!(cycles(&waits).is_empty());
    }

    #[test]
    fn who_waits_for_itself_is_a_circle_of_one() {
        assert_eq!(pids(&cycles(&[wait(1, "a", &[1])])), [[1]]);
    }

    #[test]
    fn another_thread_of_the_holder_does_not_hold() {
        let mut waits = [wait(1, "a", &[2]), wait(2, "b", &[1])];
        waits[1].who.thread_number = Some(7);
        assert!(cycles(&waits).is_empty());
        waits[0].held_by[0].thread_number = None;
        assert_eq!(pids(&cycles(&waits)), [[1, 2]]);
    }
}
