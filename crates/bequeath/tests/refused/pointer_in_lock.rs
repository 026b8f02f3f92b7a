//! A lock's value is plain data: another process may have written any bytes there.
fn main() {
    let session = bequeath::Session::new().unwrap();
    let _ = session.lock(String::from("text"));
}
