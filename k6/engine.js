// The embedded model under a few users at once. What it reports are the model's figures, not the gateway's: only errors
// have thresholds, as its speed is the machine's.
import exec from 'k6/execution';
import { Counter, Trend } from 'k6/metrics';
import { chat, field } from './lib/openai.js';
import { ERRORS, TREND_STATS, scaled } from './lib/load.js';
import { checkAnswer, firstNumber, question } from './lib/questions.js';
import { rate, summary } from './lib/summary.js';

const USERS = Number(__ENV.USERS || 4);
const TOKENS = 32;

const completionTokens = new Counter('completion_tokens');
const msPerToken = new Trend('ms_per_token', true);

export const options = {
  scenarios: { users: { executor: 'constant-vus', vus: USERS, duration: scaled(30), gracefulStop: '30s' } },
  thresholds: { http_req_failed: ERRORS, checks: ['rate==1'] },
  summaryTrendStats: TREND_STATS,
};

export const handleSummary = summary('engine', (data) => ({
  users: USERS,
  'tokens a second, all users together': rate(data, 'completion_tokens'),
}));

export function setup() {
  return firstNumber();
}

export default function (first) {
  const number = first + exec.scenario.iterationInTest;
  const answer = chat(question(number), { max_tokens: TOKENS });
  if (!checkAnswer(answer, number)) return;
  const tokens = field(answer, 'usage.completion_tokens');
  completionTokens.add(tokens);
  msPerToken.add(answer.timings.duration / tokens);
}
