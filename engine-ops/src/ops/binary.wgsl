// The quotient rounded towards zero; by zero it is zero, and the lowest number divided by -1 wraps to itself.
fn div_i32(a: i32, b: i32) -> i32 {
    if (b == 0) { return 0; }
    if (b == -1) { return -a; }
    return a / b;
}

// The remainder with the sign of the divisor; by zero it is zero.
fn mod_i32(a: i32, b: i32) -> i32 {
    if (b == 0 || b == -1) { return 0; }
    let r = a % b;
    return select(r, r + b, r != 0 && ((r > 0) != (b > 0)));
}

fn unordered(a: f32, b: f32) -> bool { return is_nan(a) || is_nan(b); }
