//! What is borrowed from this process's memory does not exist in another.
fn length(text: &str) -> usize {
    text.len()
}

fn main() {
    bequeath::init();
    let session = bequeath::Session::new().unwrap();
    let text = String::from("here");
    let _ = session.spawn(length, text.as_str());
}
