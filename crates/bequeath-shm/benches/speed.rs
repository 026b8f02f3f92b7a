//! How long the session's operations take: `cargo bench -p bequeath-shm`.

use std::time::Instant;

use bequeath_shm::{Envelope, Memory, Options, Room, Session};

fn measure(name: &str, times: u32, mut act: impl FnMut()) {
    act();
    let mut best = f64::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        for _ in 0..times {
            act();
        }
        best = best.min(start.elapsed().as_secs_f64() / f64::from(times));
    }
    println!("{name:45} {:>12.3} us", best * 1e6);
}

fn main() {
    let session = Session::create(&Options::default()).expect("a session");
    for len in [100, 10_000, 200_000, 1_000_000, 5_000_000, 64 << 20] {
        measure(
            &format!("allocate and free {len} bytes"),
            if len > 1 << 20 { 200 } else { 20_000 },
            || {
                drop(session.allocate(len).expect("room"));
            },
        );
    }
    measure("make and drop a value of 8 bytes", 20_000, || {
        drop(Memory::create(&session, 8).expect("room"));
    });
    let memory = Memory::create(&session, 8).expect("room").erase();
    measure("envelope with 10000 bytes", 20_000, || {
        drop(
            Envelope::new(
                &session,
                Room {
                    payload: 10_000,
                    ..Room::default()
                },
            )
            .expect("room"),
        );
    });
    measure("envelope with a reference", 20_000, || {
        let mut envelope = Envelope::new(
            &session,
            Room {
                references: 1,
                ..Room::default()
            },
        )
        .expect("room");
        envelope.attach_reference(&memory).expect("room");
    });
    let mut objects = Vec::new();
    let start = Instant::now();
    for _ in 0..1_000_000 {
        objects.push(Memory::create(&session, 8).expect("room"));
    }
    println!(
        "a million values made: {:.2} s, {:?}",
        start.elapsed().as_secs_f64(),
        session.usage()
    );
    let start = Instant::now();
    session.scavenge();
    println!(
        "scavenging among them: {:.4} s",
        start.elapsed().as_secs_f64()
    );
    let start = Instant::now();
    let ticket = session.before_fork().expect("room");
    println!("counted for a fork: {:.2} s", start.elapsed().as_secs_f64());
    session.after_fork_parent(ticket, None);
    let start = Instant::now();
    drop(objects);
    println!(
        "dropped: {:.2} s, {:?}",
        start.elapsed().as_secs_f64(),
        session.usage()
    );
}
