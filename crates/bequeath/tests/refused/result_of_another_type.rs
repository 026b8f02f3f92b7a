//! The result is of the worker's type.
fn main() {
    bequeath::init();
    let session = bequeath::Session::new().unwrap();
    let child = session.spawn(|n: u64| n + 1, 4).unwrap();
    let _: String = child.result().unwrap();
}
