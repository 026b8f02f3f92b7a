//! What was read and written again is the same, in every protocol that has words for it.
#![no_main]

use bequeath_fuzz::graph::Graph;
use bequeath_fuzz::write::write;
use libfuzzer_sys::{fuzz_target, Corpus};

fuzz_target!(|bytes: &[u8]| -> Corpus {
    let Ok((graph, root)) = Graph::read(bytes) else {
        // Bytes that are no pickle teach nothing here.
        return Corpus::Reject;
    };
    for protocol in 0..=bequeath_pickle::HIGHEST_PROTOCOL {
        for framing in [false, true] {
            let Some(written) = write(&graph, root, protocol, framing) else {
                continue;
            };
            let (again, other) = Graph::read(&written).expect("what was written is a pickle");
            assert!(
                graph.is_same(root, &again, other),
                "protocol {protocol}: {:?} became {:?}",
                graph.0,
                again.0
            );
        }
    }
    Corpus::Keep
});
