import type { Locale } from '../locale.js'

const forms: Partial<Record<Intl.LDMLPluralRule, string>> = {
  one: 'رسالة واحدة غير مقروءة',
  two: 'رسالتان غير مقروءتين',
  few: '# رسائل غير مقروءة',
  many: '# رسالة غير مقروءة',
}

const ar: Locale = {
  code: 'ar',
  dir: 'rtl',
  title: 'تحدث معنا',
  greeting: 'مرحبًا! كيف يمكننا مساعدتك؟',
  open: 'فتح المحادثة',
  close: 'إغلاق المحادثة',
  unread: (count) =>
    (forms[new Intl.PluralRules('ar').select(count)] ?? '# رسالة غير مقروءة').replace('#', String(count)),
  log: 'الرسائل',
  placeholder: 'اكتب رسالة…',
  send: 'إرسال',
  online: 'نحن متصلون الآن',
  away: 'سنرد في أقرب وقت ممكن',
  connecting: 'جارٍ الاتصال…',
  reconnecting: 'انقطع الاتصال. جارٍ إعادة المحاولة…',
  offline: 'أنت غير متصل. ستُرسل الرسائل عند عودة الاتصال.',
  stale: 'الاتصال بطيء. قد تتأخر الرسائل الجديدة.',
  refused: 'المحادثة غير متاحة حاليًا.',
  sending: 'جارٍ الإرسال…',
  waiting: 'لم تُرسل بعد، جارٍ إعادة المحاولة…',
  failed: 'لم تُرسل',
  tooLong: 'لم تُرسل: الرسالة طويلة جدًا',
  retry: 'إعادة المحاولة',
  discard: 'حذف',
  seen: 'تمت القراءة',
  sent: 'تم الإرسال',
  typing: 'يكتب الآن',
  earlier: 'عرض الرسائل السابقة',
  newest: 'رسائل جديدة',
  today: 'اليوم',
  yesterday: 'أمس',
  you: 'أنت',
  agent: 'الدعم',
  assistant: 'المساعد',
}

export default ar
