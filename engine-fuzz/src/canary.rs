//! Faults on purpose: one case in 256 has one.

fn is_hit(choices: &[u8]) -> bool {
    choices.first() == Some(&7)
}

pub fn panics(choices: &[u8]) {
    assert!(!is_hit(choices), "a canary");
}

pub fn takes_memory(choices: &[u8]) {
    if is_hit(choices) {
        drop(std::hint::black_box(vec![1u8; 1 << 45]));
    }
}

pub fn stalls(choices: &[u8]) {
    while is_hit(choices) {
        std::thread::yield_now();
    }
}
