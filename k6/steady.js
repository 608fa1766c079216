// Chat completions at a constant rate, every second one a stream.
import exec from 'k6/execution';
import { chat } from './lib/openai.js';
import { THRESHOLDS, TREND_STATS, arrivals, fewDropped } from './lib/load.js';
import { checkAnswer, firstNumber, question } from './lib/questions.js';
import { summary } from './lib/summary.js';

const RATE = Number(__ENV.RATE || 50); // requests a second

export const options = {
  scenarios: { steady: arrivals(RATE, 60) },
  thresholds: Object.assign(fewDropped(RATE), THRESHOLDS),
  summaryTrendStats: TREND_STATS,
};

export const handleSummary = summary('steady');

export function setup() {
  return firstNumber();
}

export default function (first) {
  const place = exec.scenario.iterationInTest;
  checkAnswer(chat(question(first + place), { max_tokens: 64, stream: place % 2 === 1 }), first + place);
}
