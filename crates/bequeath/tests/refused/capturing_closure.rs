//! A closure that captures something is no function that a copy of the program could find.
fn main() {
    bequeath::init();
    let session = bequeath::Session::new().unwrap();
    let factor = 3_u64;
    let _ = session.spawn(move |n: u64| n * factor, 4);
}
