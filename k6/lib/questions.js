// Questions that are all different: each has a number, and no two runs share numbers.
import { check } from 'k6';
import { Counter } from 'k6/metrics';
import { isWhole, text } from './openai.js';

// Answers that are another question's. The fake upstream repeats the number it was asked; models do not (ECHOES=1).
export const mixedUp = new Counter('mixed_up');

const ECHOES = __ENV.ECHOES === '1';
const PER_RUN = 1000000;

// For setup(), whose result all users have: the run's first number.
export function firstNumber() {
  return (Math.floor(Date.now() / 1000) % 10000) * PER_RUN;
}

export function question(number) {
  return `This is request ${digits(number)}. At what time may I come for breakfast, and is there tea without sugar?`;
}

// Whether it is the whole answer to that question; a check, and a count of those that are another's.
export function checkAnswer(response, number, tags) {
  const whole = check(response, { 'a whole answer': isWhole }, tags);
  if (whole && ECHOES && !text(response).includes(`request ${digits(number)}`)) mixedUp.add(1, tags);
  return whole;
}

function digits(number) {
  return String(number).padStart(10, '0');
}
