//! `to_number`: the digits of a text that a picture describes.
//! Group marks, currency and blanks are passed over; a minus or brackets anywhere make it negative.

use datafusion::error::Result;

use super::numbers::NumberPicture;
use crate::functions::error::user_error;

/// The number as plain digits.
pub fn digits(picture: &NumberPicture, text: &str) -> Result<String> {
    let is_negative = text.contains('-') || (text.contains('<') && text.contains('>'));
    let mut number = String::from(if is_negative { "-" } else { "" });
    let mut has_point = false;
    for character in text.chars() {
        match character {
            '0'..='9' => number.push(character),
            '.' if picture.has_point() && !has_point => {
                has_point = true;
                number.push('.');
            }
            // What follows a point that the picture has not is not part of the number.
            '.' => break,
            _ => {}
        }
    }
    if !number.bytes().any(|byte| byte.is_ascii_digit()) {
        return Err(user_error("22P02", "invalid input syntax for type numeric: \" \""));
    }
    Ok(number)
}
