// What the AI says: put your model here.

/** The answer to a visitor's message; null if a person has to answer. */
export async function answer(message) {
  const text = message.content.toLowerCase()
  if (/\b(human|person|agent|somebody|complain)/.test(text)) return null
  if (/\b(open|hours|when)\b/.test(text)) return 'We are open from 9 to 17 on weekdays.'
  if (/\b(price|cost|much)\b/.test(text)) return 'The first month is free, then it is 10 a month.'
  return 'I am the assistant. Ask me about opening hours or prices, or ask for a person.'
}
