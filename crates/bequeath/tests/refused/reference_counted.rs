//! An `Rc` counts within one process.
use std::rc::Rc;

fn main() {
    let session = bequeath::Session::new().unwrap();
    let queue = session.queue::<Rc<u32>>(None).unwrap();
    let _ = queue.send(&Rc::new(1));
}
